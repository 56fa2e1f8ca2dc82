"""The HTTP face: what `rlm web` serves."""
