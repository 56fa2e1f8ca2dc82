"""Values and rules that do not depend on Redis, HTTP or processes."""
