"""The processes: a register in which they announce themselves, what the lanes of workers hold, how many are wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec.structs import replace

from rlm.core.clock import system_clock
from rlm.ledger.connect import text, translated
from rlm.ledger.scripts import Command, Part
from rlm.ledger.values import MICROSECONDS, Moment, reading, whole

#: A process that was not heard from for this many seconds is taken for gone.
HEARTBEAT_TTL_SECONDS = 8.0
#: How often a process announces itself, seconds.
HEARTBEAT_SECONDS = 3.5

_Number: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]


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


class Offer(msgspec.Struct, frozen=True):
    """A supervisor's offer: `capacity` workers on its host, of `least` to `most` in total."""

    capacity: _Number
    least: _Number
    most: _Number


class Process(msgspec.Struct, frozen=True):
    """What a process announces about itself; `started_at` is in seconds since 1970.

    `said_at` is when it announced this, by its host's clock that never steps. `offer` is a supervisor's. Of a
    scheduler, `ticks_every` is how often it starts runs, seconds; `insists_on_file`: it requires an append-only file.
    `file` is that of its configuration, empty for the built-in one; `apart` is the digest of its types and URLs
    (`rlm.settings.apart_of`). `sleeping` says in a few words why a worker asks for no call for a while, because it can
    connect to no endpoint; `completed` is how many events it has completed; `trouble` what keeps a scheduler or
    supervisor from its work. A field is empty, 0 or None if it is unknown.
    """

    id: str
    pid: int
    host: str
    started_at: Moment
    state: str = ""
    threads: _Number = 0
    revision: str = ""
    supervisor: str = ""
    said_at: float = 0.0
    offer: Offer | None = None
    insists_on_file: bool = False
    ticks_every: float = 0.0
    file: str = ""
    apart: str = ""
    sleeping: str = ""
    completed: _Number = 0
    trouble: str = ""


_decode = msgspec.json.Decoder(Process).decode


class Register(msgspec.Struct, frozen=True):
    """By role the processes: id, announcement, None if it is no longer heard from, and how old that is, seconds.

    `wanted` is how many workers the conductor wants, over all hosts; `restarts` how many ever ended unexpectedly.
    """

    entries: Mapping[Role, Sequence[tuple[str, Process | None, float]]]
    wanted: int
    restarts: int

    def living(self, *roles: Role) -> list[Process]:
        """Return the living processes of some roles, oldest first."""
        alive = (process for role in roles for _, process, _ in self.entries[role] if process)
        return sorted(alive, key=lambda process: (process.started_at, process.id))


class Lane(msgspec.Struct, frozen=True):
    """What a busy lane holds: an event, and since when it has a slot at the endpoint, microseconds of Redis time."""

    event_id: str
    endpoint: str
    taken_us: int


def lanes_of(notes: Mapping[bytes, bytes]) -> list[Lane]:
    """Return what the lanes of a worker hold according to its hash `held:WORKER`, the longest running calls first.

    The value of a lane is the number of its last ask; while that has a call, `N CLAIMS ENDPOINT STAMP EVENT_ID`.
    """
    values = (text(raw).split(" ") for raw in notes.values())
    lanes = [Lane(value[4], value[2], whole(value[3])) for value in values if len(value) > 1]
    return sorted(lanes, key=lambda lane: (lane.taken_us, lane.event_id))


class Processes(Part):
    """The register of processes. Those of a vanished host stay in it, silent, until somebody has cleaned up after them.

    Whoever was not heard from within `HEARTBEAT_TTL_SECONDS` is missing, and so is one whose moment lies ahead, because
    the clock of Redis was set back: who lives announces itself soon.
    """

    def announce(self, role: Role, process: Process) -> None:
        """Enter a process, or renew its entry, with the time of Redis, as far as this process knows it."""
        clock = self._store.clock
        if clock.expects_us() is None:
            self.register()
        entry = msgspec.json.encode(replace(process, said_at=system_clock.monotonic()))
        self._ask("HSET", self._keys.processes, f"{role} {process.id}", b"%d %b" % (clock.expects_us() or 0, entry))

    def forget(self, role: Role, process_id: str) -> None:
        """Remove a process that has ended."""
        self._ask("HDEL", self._keys.processes, f"{role} {process_id}")

    def register(self) -> Register:
        """Read who is there."""
        return self.register_and()[0]

    @translated()
    def register_and(self, *commands: Command) -> tuple[Register, int, list[Any]]:
        """Read who is there, the time of Redis, microseconds, and the replies to more `commands`, in one round trip."""
        key, asked_at = self._keys.processes, system_clock.monotonic()
        fields, now_us, *replies = self._batch([("HGETALL", key), ("TIME",), *commands])
        self._store.clock.hear(asked_at, now_us, system_clock.monotonic())
        entries: dict[Role, list[tuple[str, Process | None, float]]] = {role: [] for role in Role}
        for name, value in sorted(fields.items()):
            role, _, process_id = text(name).partition(" ")
            if role not in entries:  # one of the numbers
                continue
            at, _, entry = value.partition(b" ")
            silence = (now_us - reading(whole, at, key, 0)) / MICROSECONDS
            process = reading(_decode, entry, key, None) if abs(silence) <= HEARTBEAT_TTL_SECONDS else None
            entries[Role(role)].append((process_id, process, max(0.0, silence)))
        wanted, restarts = (reading(whole, fields.get(name), key, 0) for name in (b"wanted", b"restarts"))
        return Register(entries, wanted, restarts), now_us, replies

    @translated()
    def lanes(self, worker_ids: Sequence[str]) -> list[list[Lane]]:
        """Return for each worker what its busy lanes hold, the longest running first."""
        return [lanes_of(notes) for notes in self._batch(("HGETALL", self._keys.held(each)) for each in worker_ids)]

    def count_restart(self) -> None:
        """Count a worker that ended unexpectedly and is replaced; twice, if the answer of Redis is lost."""
        self._ask("HINCRBY", self._keys.processes, "restarts", 1)

    def wake(self, *whom: str) -> None:
        """Wake `workers`, `supervisors` or `scheduler`, as named. A lost wake-up only costs time, because all poll."""
        self._batch(("PUBLISH", self._keys.wake(each), "wake") for each in whom)
