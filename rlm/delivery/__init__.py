"""An event from its claim to its settlement, and the end of a run."""
