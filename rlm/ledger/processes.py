"""The register of processes (workers, supervisors and schedulers announce themselves), and the number of workers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import msgspec

from rlm.core.clock import system_clock
from rlm.ledger.connect import text, translating
from rlm.ledger.held import Lane, lanes_of
from rlm.ledger.scripts import Part
from rlm.ledger.values import Moment, duration, reading, whole

#: A process that was not heard from for this many seconds is taken for gone.
HEARTBEAT_TTL_SECONDS = 8.0
#: How often a process announces itself, seconds.
HEARTBEAT_SECONDS = 3.5

#: What `PTTL` returns for a key that never expires.
_ENDLESS = -1
#: No process has more lanes.
MOST_LANES = 1_000_000_000


class Role(StrEnum):
    """The kinds of long-running processes."""

    WORKER = "worker"
    SUPERVISOR = "supervisor"
    SCHEDULER = "scheduler"


class WorkerState(StrEnum):
    """What a worker process is doing."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


def host_of(process_id: str) -> str:
    """Return the host of a process, which is the first part of its id."""
    return process_id.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Offer:
    """A supervisor's offer: `capacity` workers on its host, of `least` to `most` in total."""

    capacity: int
    least: int = 0
    most: int = MOST_LANES


@dataclass(frozen=True, slots=True)
class Process:
    """What a process announces about itself; `started_at` is in seconds since 1970.

    `version` is RLM's; `said_at` is when it announced this, by its host's clock that never steps. `offer` is a
    supervisor's. `pids` is the space in which `pid` counts (`pid_space`). Of a scheduler, `ticks_every` is how often it
    starts runs, seconds; `insists_on_file`: it requires an append-only file. `file` is that of its configuration, empty
    for the built-in one; `apart` is the digest of its types and URLs (`rlm.settings.apart_of`). `sleeping` says in a
    few words why a worker asks for no call for a while, because it can connect to no endpoint. A field is empty, 0 or
    None if it is unknown.
    """

    id: str
    pid: int
    host: str
    started_at: Moment
    state: str = ""
    threads: int = 0
    revision: str = ""
    supervisor: str = ""
    version: str = ""
    said_at: float = field(default=0.0, compare=False)
    offer: Offer | None = None
    pids: str = ""
    insists_on_file: bool = False
    ticks_every: float = 0.0
    file: str = ""
    apart: str = ""
    sleeping: str = ""


class Processes(Part):
    """The register of processes. Entries expire, so processes of a vanished host do not stay in it."""

    def announce(self, role: Role, process: Process, *, entered: bool = False) -> None:
        """Enter a process, or renew its entry; if another process has `entered` it, only renew."""
        entry = msgspec.json.encode(replace(process, said_at=system_clock.monotonic()))
        write = ("SET", self._keys.process(role, process.id), entry, "PX", _ttl_ms())
        if entered:  # a single command, because a pipeline costs an idle worker more than the command
            self._ask(*write)
        else:
            self._batch([("SADD", self._keys.processes(role), process.id), write])  # Redis may have come back empty

    def enter(self, role: Role, process_ids: Sequence[str]) -> None:
        """Enter processes in the register that will announce themselves."""
        if process_ids:
            self._ask("SADD", self._keys.processes(role), *process_ids)

    def forget(self, role: Role, process_id: str) -> None:
        """Remove a process that has ended."""
        entries = ("SREM", self._keys.processes(role), process_id), ("DEL", self._keys.process(role, process_id))
        self._batch(entries, transaction=True)

    def heard(self, role: Role) -> dict[str, Process | None]:
        """Return the announcements of a role's processes, by id; None for one that is no longer heard from."""
        ids = sorted(map(text, self._ask("SMEMBERS", self._keys.processes(role))))
        return dict(zip(ids, map(_read, self._mget([self._keys.process(role, one) for one in ids])), strict=True))

    def register(self) -> dict[Role, list[tuple[str, Process | None, float]]]:
        """Return the whole register in two round trips: by role the ids, their announcements, and how old these are.

        The values are like those of `heard` and `silences`.
        """
        ids = self._members(Role)
        keys = [self._keys.process(role, one) for role, one in ids]
        entries, *left = self._batch([("MGET", *keys), *(("PTTL", key) for key in keys)]) if keys else [[]]
        found: dict[Role, list[tuple[str, Process | None, float]]] = {role: [] for role in Role}
        for (role, one), raw, left_ms in zip(ids, entries, left, strict=True):
            found[role].append((one, _read(raw), _silence(left_ms)))
        return found

    def alive(self, role: Role) -> list[Process]:
        """Return the processes of a role, oldest first; those no longer heard from are `missing`."""
        return self.look(role)[0]

    def look(self, role: Role) -> tuple[list[Process], list[str]]:
        """Return the results of `alive` and `missing` at one moment."""
        entries = self.heard(role)
        alive = sorted(filter(None, entries.values()), key=lambda one: (one.started_at, one.id))
        return alive, [one for one, entry in entries.items() if entry is None]

    def missing(self, role: Role) -> list[str]:
        """Return processes of a role that are unheard of but did not sign off (`scheduler.housekeeping`)."""
        return [one for _, one in self.missing_of(role)]

    def missing_of(self, *roles: Role) -> list[tuple[Role, str]]:
        """Return the missing processes of several roles, as (role, id)."""
        ids = self._members(roles)
        entries = self._mget([self._keys.process(role, one) for role, one in ids])
        return [one for one, entry in zip(ids, entries, strict=True) if _read(entry) is None]

    def _members(self, roles: Iterable[Role]) -> list[tuple[Role, str]]:
        every = list(roles)
        members = self._batch(("SMEMBERS", self._keys.processes(role)) for role in every)
        return [(role, text(one)) for role, found in zip(every, members, strict=True) for one in sorted(found)]

    def end_in_time(self) -> None:
        """Shorten entries that outlive new ones; after the Redis clock is set back, the dead would seem alive."""
        keys, most_ms = [self._keys.process(role, one) for role, one in self._members(Role)], _ttl_ms()
        left = self._batch(("PTTL", key) for key in keys)
        self._batch(("PEXPIRE", key, most_ms) for key, left_ms in zip(keys, left, strict=True) if left_ms > most_ms)

    def busy(self, worker_ids: Sequence[str]) -> list[int]:
        """Return how many events each worker has claimed."""
        return [len(lanes) for lanes in self.lanes(worker_ids)]

    @translating
    def lanes(self, worker_ids: Sequence[str]) -> list[list[Lane]]:
        """Return for each worker what its busy lanes hold, the longest running first."""
        return [lanes_of(one) for one in self._batch(("HGETALL", self._keys.held(one)) for one in worker_ids)]

    def silences(self, role: Role, process_ids: Sequence[str]) -> list[float]:
        """Return how long ago each process announced itself, seconds, from the expiry of its entry.

        An entry that never expires was overwritten by another program, and counts as announced just now.
        """
        return list(map(_silence, self._batch(("PTTL", self._keys.process(role, one)) for one in process_ids)))

    def count_restart(self) -> None:
        """Count a worker that ended unexpectedly and is replaced; twice, if the answer of Redis is lost."""
        self._ask("INCR", self._keys.restarts)

    @translating
    def restarts(self) -> int:
        """Return how many workers ever ended unexpectedly."""
        return reading(whole, self._ask("GET", self._keys.restarts), self._keys.restarts, 0)

    @translating
    def coming_up_seconds(self) -> float | None:
        """Return how long workers take to start if none is ready, measured in the last runs; None if unknown."""
        return reading(duration, self._ask("GET", self._keys.coming_up), self._keys.coming_up, None)

    def note_coming_up(self, seconds: float) -> None:
        """Record how long workers took to start; the average with the previous value is kept."""
        known = self.coming_up_seconds()
        self._ask("SET", self._keys.coming_up, repr(seconds if known is None else (known + seconds) / 2))

    @translating
    def wanted(self) -> int:
        """Return how many workers the conductor wants, over all hosts."""
        return reading(whole, self._ask("GET", self._keys.wanted), self._keys.wanted, 0)

    def want(self, token: int, workers: int) -> None:
        """Publish how many workers are wanted, over all hosts, and wake the supervisors."""
        self._run("want_workers", lease=self._keys.lease, wanted=self._keys.wanted, token=token, workers=workers)
        self.wake("supervisors")

    def wake(self, *whom: str) -> None:
        """Wake `workers`, `supervisors` or `scheduler`, as named. A lost wake-up only costs time, because all poll."""
        self._batch(("PUBLISH", self._keys.wake(one), "wake") for one in whom)


def _silence(left_ms: int) -> float:
    """Return how long ago an entry with this time to live was written, seconds."""
    return 0.0 if left_ms == _ENDLESS else HEARTBEAT_TTL_SECONDS - max(0, left_ms) / 1000


def _ttl_ms() -> int:
    return round(HEARTBEAT_TTL_SECONDS * 1000)


def _read(entry: bytes | None) -> Process | None:
    """Return a decoded entry of the register; None if there is none, or if another program wrote it."""
    try:
        found = msgspec.json.decode(entry or b"", type=Process)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    offer = found.offer or Offer(0)
    possible = 0 <= found.threads <= MOST_LANES
    return found if possible and min(offer.capacity, offer.least, offer.most) >= 0 else None
