"""The lanes of a simulation, busy and idle."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlm.plan.situation import Situation


class Lanes:
    """The lanes that are idle, and by `moments` the groups of those that are busy, each until it is free again.

    That is a turnaround after the answer. `idle` below zero: more lanes are busy than there are to be.
    """

    __slots__ = ("_turnaround", "idle", "moments")

    def __init__(self, situation: Situation, lanes: int) -> None:
        self._turnaround = situation.turnaround
        self.moments = [(busy.answered_at + situation.turnaround, 1) for busy in situation.busy]
        heapq.heapify(self.moments)
        self.idle = lanes - len(self.moments)

    def begin(self, answered_at: int, calls: int) -> None:
        """Make lanes busy with calls."""
        self.idle -= calls
        heapq.heappush(self.moments, (answered_at + self._turnaround, calls))

    def free_by(self, at: int) -> None:
        """Make those idle that are free by `at`."""
        while self.moments and self.moments[0][0] <= at:
            self.idle += heapq.heappop(self.moments)[1]
