"""A clock that changes only when a test sets it, or a caller waits."""

from __future__ import annotations


class SetClock:
    """Replaces `rlm.core.clock.Clock`: every reading is `time`, seconds."""

    def __init__(self, time=1000.0):
        self.time = time

    def now(self):
        return self.time

    def monotonic(self):
        return self.time

    def next_beat(self, period):
        return (self.time // period + 1) * period

    def sleep(self, seconds):
        self.time += seconds
