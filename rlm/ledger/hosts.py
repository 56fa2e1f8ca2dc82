"""Which hosts may start workers.

There are `workers.max` places for workers over all hosts, and a supervisor asks for a place before it starts one. A
worker takes a place while it is heard from, even if it is about to leave, so when hosts take over from another there
are never more workers than allowed. Silent workers and those started by hand take no place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from rlm.ledger.processes import HEARTBEAT_SECONDS, HEARTBEAT_TTL_SECONDS, Process, Role
from rlm.ledger.scripts import Part

if TYPE_CHECKING:
    pass


#: A worker that was not heard from for this long takes no place, seconds; it normally announces itself sooner.
SILENT_SECONDS = HEARTBEAT_SECONDS + 0.5
_TTL_MS = round(HEARTBEAT_TTL_SECONDS * 1000)
#: How often it asks again at once if another host entered workers at the same moment.
TRIES = 5


class Places(Part):
    """Decides who may start workers, and how many."""

    def admit(self, new: Sequence[Process], own: int, most: int) -> int:
        """Enter as many of these `new` workers of one supervisor as there are places; return how many.

        There are `most` places; the supervisor's `own` workers take one each.
        """
        newcomers = [
            {
                "id": one.id,
                "entry": self._keys.process(Role.WORKER, one.id),
                "announcement": msgspec.json.encode(one).decode(),
            }
            for one in new
        ]
        for _ in range(TRIES if new else 0):
            known, others = self._others(new[0].supervisor)
            entered = self._run(
                "admit_workers",
                workers=self._keys.processes(Role.WORKER),
                known=known,
                places=most - own,
                ttl_ms=_TTL_MS,
                others=[{"entry": entry, "least_ms": least_ms} for entry, least_ms in others.items()],
                newcomers=newcomers,
            )
            if entered >= 0:
                return int(entered)
        return 0

    def left(self, supervisor_id: str, most: int) -> int:
        """Return how many of `most` places the workers of other supervisors leave."""
        _, others = self._others(supervisor_id)
        return max(0, most - sum(entry is not None for entry in self._mget(list(others))))

    def _others(self, supervisor_id: str) -> tuple[int, dict[str, int]]:
        """Return how many ids are in the register, and the entries of others' workers that take a place.

        Each comes with the least time it must have to live, milliseconds; with less, its worker is silent.
        """
        found = self._store.processes.heard(Role.WORKER)
        others = {
            self._keys.process(Role.WORKER, name): _TTL_MS - round(1000 * _silent_after(one))
            for name, one in found.items()
            if not name.startswith(f"{supervisor_id}:") and (one is None or one.supervisor)
        }
        return len(found), others


def _silent_after(worker: Process | None) -> float:
    return min(SILENT_SECONDS, worker.silent_after) if worker else SILENT_SECONDS
