"""The processes of RLM: a supervisor with its worker processes, groups of processes, signals, periods of grace."""
