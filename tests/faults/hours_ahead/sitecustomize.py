"""Sets the wall clock of a process wrong, as that of its host may be: put this directory on its `PYTHONPATH`."""

import time

AHEAD_SECONDS = 2 * 3600.0
_right = time.time
time.time = lambda: _right() + AHEAD_SECONDS
