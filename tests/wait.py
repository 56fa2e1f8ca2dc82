"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds between two looks at the condition.
POLL_SECONDS = 0.01


def wait_until(condition: Callable[[], T], *, timeout: float = 10.0, message: str = "the condition holds") -> T:
    """Call `condition` until it returns something true, and return that; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s until {message}, in vain; last seen: {value!r}")
        time.sleep(POLL_SECONDS)
    return value
