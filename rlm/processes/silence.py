"""Tells frozen workers from quiet ones: a process that is stopped, or whose main thread is stuck, says nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.core.clock import system_clock
from rlm.ledger.processes import HEARTBEAT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A worker that has not announced itself for so long is silent: it has missed a heartbeat and its next is due, seconds.
SILENT_SECONDS = 2 * HEARTBEAT_SECONDS
#: How often it is looked for silent ones, seconds.
LOOK_SECONDS = 1.0
#: A worker found silent by so many looks in a row is frozen. They take longer than from one heartbeat to the next, so
#: that all may be heard again after Redis lost the register, its clock stepped, or this host was suspended.
LOOKS = 5
#: A worker that was not ready yet is not judged before it is so old, for it may still be coming up, seconds: on a host
#: with too much to do that takes long, and ending those who try makes it worse.
BOOT_SECONDS = 60.0


class Silences:
    """Counts the looks that found each worker silent."""

    def __init__(self) -> None:
        self._looks: dict[str, int] = {}
        self._next_at = float("-inf")

    @property
    def due(self) -> bool:
        """Whether it is time to look."""
        return system_clock.monotonic() >= self._next_at

    def frozen(self, silences: Mapping[str, float]) -> list[str]:
        """Take a look's result, seconds of silence by worker; return the workers that are frozen."""
        self._next_at = system_clock.monotonic() + LOOK_SECONDS
        silent = (worker_id for worker_id, seconds in silences.items() if seconds > SILENT_SECONDS)
        self._looks = {worker_id: self._looks.get(worker_id, 0) + 1 for worker_id in silent}
        return [worker_id for worker_id, looks in self._looks.items() if looks >= LOOKS]

    def forget(self) -> None:
        """Begin anew: Redis was away, so nobody could be heard."""
        self._looks.clear()
