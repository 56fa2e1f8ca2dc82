"""RLM on a terminal: pictures of runs and queues, drawn from the documents that `--json` prints."""
