"""The HTTP interface that `rlm web` serves."""
