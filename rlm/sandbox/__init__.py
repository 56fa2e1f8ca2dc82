"""RLM on one machine: a mock API, the demo, the test."""
