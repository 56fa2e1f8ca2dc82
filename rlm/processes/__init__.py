"""The processes of RLM: a supervisor with its worker processes, process groups, signals, grace periods."""
