"""Values and rules that know neither Redis, nor HTTP, nor processes."""
