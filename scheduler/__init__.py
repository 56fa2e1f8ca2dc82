"""The scheduler: ticks on the wall clock, one conductor at a time, each run from its drain to its record."""
