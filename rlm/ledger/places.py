"""The places for workers, `workers.max` over all hosts: whoever starts one asks for a place first.

A worker takes a place for as long as it is heard of, whether or not it is about to leave: when hosts take over from one
another there are never more than there may be. One that is silent takes none, nor do those that were started by hand.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import redis

from rlm.ledger.keys import Keys
from rlm.ledger.processes import HEARTBEAT_SECONDS, HEARTBEAT_TTL_SECONDS, Process, Processes, Role
from rlm.ledger.scripts import Part

#: A worker that was not heard of for so long takes no place, seconds: it announces itself sooner.
SILENT_SECONDS = HEARTBEAT_SECONDS + 0.5
_TTL_MS = round(HEARTBEAT_TTL_SECONDS * 1000)
#: So often is asked again at once, where another host entered workers in the same moment.
TRIES = 5


class Places(Part):
    """Who may start workers, and how many."""

    def __init__(self, client: redis.Redis, keys: Keys, processes: Processes) -> None:
        super().__init__(client, keys)
        self._processes = processes

    def admit(self, new: Sequence[Process], own: int, most: int) -> int:
        """Enter the first of these `new` workers of one supervisor, as many as there are places; return how many.

        There are `most` places; `own` workers that it has already take one each.
        """
        for _ in range(TRIES if new else 0):
            known, others = self._others(new[0].supervisor)
            entries = [self._keys.process(Role.WORKER, one.id) for one in new]
            keys = [self._keys.processes(Role.WORKER), *others, *entries]
            named = [part for one in new for part in (one.id, msgspec.json.encode(one))]
            counts = [known, most - own, len(others), _TTL_MS, *others.values()]
            if (entered := int(self._run("admit_workers", keys, [*counts, *named]))) >= 0:
                return entered
        return 0

    def left(self, supervisor_id: str, most: int) -> int:
        """Return how many of `most` places the workers of others than this supervisor leave."""
        _, others = self._others(supervisor_id)
        return max(0, most - sum(entry is not None for entry in self._mget(list(others))))

    def _others(self, supervisor_id: str) -> tuple[int, dict[str, int]]:
        """Return how many ids are in the register, and the keys of the entries of others that take a place.

        With each, how long it has to live at least, milliseconds: else its worker is silent.
        """
        found = self._processes.heard(Role.WORKER)
        others = {
            self._keys.process(Role.WORKER, name): _TTL_MS - round(1000 * _silent_after(one))
            for name, one in found.items()
            if not name.startswith(f"{supervisor_id}:") and (one is None or one.supervisor)
        }
        return len(found), others


def _silent_after(worker: Process | None) -> float:
    return min(SILENT_SECONDS, worker.silent_after) if worker else SILENT_SECONDS
