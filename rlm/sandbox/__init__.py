"""RLM tried out on one machine: a mock API, the demo, the self-test."""
