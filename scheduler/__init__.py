"""The scheduler: ticks by the clock of Redis, one conductor at a time, each run from its drain to its record."""
