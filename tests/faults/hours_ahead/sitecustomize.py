"""Sets a process's wall clock wrong, like a wrong host: put this directory on its `PYTHONPATH`."""

import time

AHEAD_SECONDS = 2 * 3600.0
_right = time.time
time.time = lambda: _right() + AHEAD_SECONDS
