"""A clock that stands still until a test sets it, or somebody waits."""

from __future__ import annotations


class SetClock:
    """Stands for `rlm.core.clock.Clock`: every reading is `time`, seconds; the host may have slept besides."""

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
