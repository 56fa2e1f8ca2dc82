"""Lanes that carry nothing: what a worker process sees of `rlm.delivery.lane.Lanes`."""

from __future__ import annotations

import threading
from collections import Counter


class FakeLanes:
    """Each lane waits for the stop, or for its `end`; a test sets what lanes would find out."""

    def __init__(self, _store, _settings, _dispatcher, worker_id, on_change):
        self.worker_id, self.on_change = worker_id, on_change
        self.record = None
        self.sleeping, self.completed = "", Counter[int]()
        self.woken = 0
        self.threads: list[int] = []
        self.end: BaseException | None = None
        self.changed = threading.Event()

    def carry(self):
        self.threads.append(threading.get_ident())
        self.changed.wait()
        if self.end is not None:
            raise self.end

    def wake(self):
        self.woken += 1

    def stop(self):
        self.changed.set()

    # -- what a test lets happen

    def die(self, error):
        self.end = error
        self.changed.set()
