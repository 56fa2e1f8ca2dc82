"""The Dramatiq side: the actors `dispatch` and `record`, and the worker process in which they run."""
