"""A clock that changes only when a test sets it, or a caller waits."""

from __future__ import annotations


class SetClock:
    """Replaces `rlm.core.clock.Clock`: every reading is `time`, seconds; the host may also have slept."""

    def __init__(self, time=1000.0):
        self.time = time
        self.slept = 0.0

    def now(self):
        return self.time

    def monotonic(self):
        return self.time

    def boottime(self):
        return self.time + self.slept

    def to_beat(self, period):
        return period - self.time % period

    def sleep(self, seconds):
        self.time += seconds
