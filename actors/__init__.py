"""The Dramatiq side: a broker whose messages are claim checks, two thin actors, and the worker process they run in."""
