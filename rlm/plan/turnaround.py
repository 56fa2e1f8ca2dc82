"""What a lane needs from an answer to its next call, as measured while events waited for nothing but a lane. Pure.

It settles, has its message acknowledged, fetches the next, claims, connects, takes a slot: on a busy machine, or with a
Redis far away, several times as long as elsewhere. While no slot is free lanes are idle for other reasons.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rlm.core.expected import Completed

#: What a lane needs until that is measured, seconds.
#: Measured on a machine of two cores with 3 to 20 workers, the embedded server writing through to its disk.
TURNAROUND_SECONDS: Final = 0.01
#: The newest so many calls decide, from the first so many on; of those the longest few are hiccups.
NEWEST_TURNS: Final = 60
MEASURED_TURNS: Final = 10
HICCUPS: Final = 2


class Turnaround:
    """Follows the lanes of one run. Moments are seconds since 1970, as the run counts them."""

    def __init__(self) -> None:
        self._newest: deque[float] = deque(maxlen=NEWEST_TURNS)
        self._short_since: float | None = None

    def look(self, now: float, *, short: bool) -> None:
        """Note whether events wait for nothing but a lane; several times a second."""
        if not short:
            self._short_since = None
        elif self._short_since is None:
            self._short_since = now

    def complete(self, call: Completed, answered_at: float) -> None:
        """Note a completed call; it counts if its lane was idle for no other reason than what a lane needs."""
        turned_at = answered_at - (call.milliseconds + call.idle_ms) / 1000
        if call.idle_ms and self._short_since is not None and turned_at >= self._short_since:
            self._newest.append(call.idle_ms / 1000)

    @property
    def seconds(self) -> float:
        """What a lane needs from an answer to the beginning of its next call, on average."""
        if len(self._newest) < MEASURED_TURNS:
            return TURNAROUND_SECONDS
        usual = sorted(self._newest)[:-HICCUPS]
        return sum(usual) / len(usual)
