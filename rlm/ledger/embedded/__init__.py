"""The embedded server: a Valkey process for a host without a Redis of its own."""
