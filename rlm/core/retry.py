"""The retry policy: how long an event whose call failed waits for its next attempt. Lanes and the planner go by it."""

from __future__ import annotations

import random
from typing import Final

#: The wait after the first failed attempt, seconds; doubled with each further one.
FIRST_BACKOFF_SECONDS: Final = 0.5
#: Each wait is multiplied by a random factor between these, so that events that failed together do not come together.
JITTER: Final = (0.5, 1.5)


def backoff(first: int, failed: int) -> int:
    """Return the expected wait after `failed` attempts, from 1, in the unit of the `first` one."""
    return first << (failed - 1)


def backoff_seconds(failed: int) -> float:
    """Return how long an event waits after `failed` attempts, from 1, with jitter."""
    return FIRST_BACKOFF_SECONDS * backoff(1, failed) * random.uniform(*JITTER)
