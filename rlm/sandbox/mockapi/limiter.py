"""The strict moving window: admits a call by the time it arrived, and by nothing else."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlm.core.endpoint import Limit

#: What is left of a wait that floating point rounds away: it is still a wait.
_SHORTEST_WAIT = 1e-9


class StrictWindow:
    """The calls of one endpoint that were admitted, and whether its limit allows one more.

    A period is counted backwards from an arrival, open at its far end: a call that arrives exactly a period after
    another is not in one period with it. Refused calls take no room. There is no margin whatever, neither for the
    caller nor for the server.
    """

    def __init__(self, limit: Limit) -> None:
        self._rules = limit.rules
        self._admitted: deque[float] = deque(maxlen=max(rule.amount for rule in limit.rules))

    def admit(self, at: float) -> bool:
        """Admit the call that arrived `at` (monotonic seconds, never less than the time before), or refuse it."""
        if self.wait_seconds(at) > 0:
            return False
        self._admitted.append(at)
        return True

    def wait_seconds(self, at: float) -> float:
        """Return the seconds from `at` until a call will be admitted, 0 if one is admitted now."""
        wait = 0.0
        for rule in self._rules:
            if len(self._admitted) < rule.amount:
                continue
            first = self._admitted[-rule.amount]  # of the calls that use the rule up
            if first > at - rule.seconds:
                wait = max(wait, first + rule.seconds - at, _SHORTEST_WAIT)
        return wait
