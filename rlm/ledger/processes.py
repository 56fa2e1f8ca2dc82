"""Who is alive: workers, supervisors and schedulers announce themselves; the wanted number; the wake-up channels."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

import msgspec
import redis

from rlm.core.clock import system_clock
from rlm.ledger.connect import ESCAPED, make_client, translated
from rlm.ledger.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rlm.ledger.keys import Keys

#: A process not heard of for this many seconds is taken for gone.
HEARTBEAT_TTL_SECONDS = 10.0
#: How often a process announces itself, seconds.
HEARTBEAT_SECONDS = 3.0

#: What `PTTL` says of a key that never expires.
_ENDLESS = -1
#: No process starts later (the year 9999), nor has more lanes.
LATEST = 253_402_300_799.0
MOST_LANES = 1_000_000_000

_RECONNECT_SECONDS = 0.5
#: A channel on which nothing was heard for so long is asked whether it is still there, seconds, and connected anew if
#: no answer comes within so many more: what lies between forgets a silent connection, and tells neither end.
_PING_SECONDS = 10.0
_PONG_SECONDS = 5.0
#: How long it is remembered that a worker's unexpected end was counted, milliseconds.
_RESTARTED_MS = 3_600_000


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


@dataclass(frozen=True, slots=True)
class Process:
    """What a process announces of itself; `started_at` in seconds since 1970.

    `version` is RLM's, empty where that was older than this field.
    """

    id: str
    pid: int
    host: str
    started_at: float
    state: str = ""
    threads: int = 0
    revision: str = ""
    supervisor: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Lane:
    """What one busy lane of a worker has in hand: an event, and once it has a slot where and since when.

    `taken_us` is when the slot was taken, microseconds by the clock of Redis.
    """

    event_id: str
    endpoint: str | None = None
    taken_us: int | None = None


class Processes:
    """The register of processes. Entries expire, so that a host that vanished does not stay in it."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._want = Script("want_workers")
        self._count_restarts = Script("count_restarts")

    def announce(self, role: Role, process: Process) -> None:
        """Enter a process, or prolong its entry."""
        with translated(self._client):
            pipeline = self._client.pipeline(transaction=True)
            pipeline.sadd(self._keys.processes(role), process.id)
            pipeline.set(
                self._keys.process(role, process.id),
                msgspec.json.encode(process),
                px=round(HEARTBEAT_TTL_SECONDS * 1000),
            )
            pipeline.execute()

    def forget(self, role: Role, process_id: str) -> None:
        """Remove a process that has ended."""
        with translated(self._client):
            pipeline = self._client.pipeline(transaction=True)
            pipeline.srem(self._keys.processes(role), process_id)
            pipeline.delete(self._keys.process(role, process_id))
            pipeline.execute()

    def alive(self, role: Role) -> list[Process]:
        """List the processes of a role, oldest first; those no longer heard of are `missing`."""
        found = [one for one in self._entries(role).values() if one is not None]
        return sorted(found, key=lambda process: (process.started_at, process.id))

    def missing(self, role: Role) -> list[str]:
        """Return the processes of a role that neither signed off nor are heard of; see `scheduler.housekeeping`."""
        return [one for one, entry in self._entries(role).items() if entry is None]

    @translated()
    def _entries(self, role: Role) -> dict[str, Process | None]:
        """Read the register of a role, by id; None for those that are no longer heard of, or are no processes.

        An entry that has longer to live than a new one was made before the clock of Redis was set back. Whoever lives
        makes a new one in a moment; the others would be taken for living for as long as that.
        """
        with translated(self._client):
            ids = sorted(
                one.decode(errors=ESCAPED)
                for one in cast("set[bytes]", self._client.smembers(self._keys.processes(role)))
            )
            pipeline = self._client.pipeline(transaction=False)
            for one in ids:
                pipeline.get(self._keys.process(role, one))
                pipeline.pttl(self._keys.process(role, one))
            replies = iter(pipeline.execute() if ids else ())
        return {
            one: _read(entry) if entry is not None and left <= HEARTBEAT_TTL_SECONDS * 1000 else None
            for one, entry, left in zip(ids, replies, replies, strict=True)
        }

    def busy(self, worker_ids: list[str]) -> list[int]:
        """Count the events that each worker has claimed."""
        with translated(self._client):
            pipeline = self._client.pipeline(transaction=False)
            for worker_id in worker_ids:
                pipeline.hlen(self._keys.calls(worker_id))
            return cast("list[int]", pipeline.execute())

    @translated()
    def lanes(self, worker_ids: Sequence[str]) -> list[list[Lane]]:
        """Return for each worker what its busy lanes have in hand, those longest under way first."""
        with translated(self._client):
            pipeline = self._client.pipeline(transaction=False)
            for worker_id in worker_ids:
                pipeline.hgetall(self._keys.calls(worker_id))
            notes = cast("list[dict[bytes, bytes]]", pipeline.execute())
        return [_lanes(one) for one in notes]

    def silences(self, role: Role, process_ids: Sequence[str]) -> list[float]:
        """Return how long ago each process announced itself, seconds; `HEARTBEAT_TTL_SECONDS` where it was longer.

        An entry that never expires is none of its own: somebody wrote over that, just now for all that is known.
        """
        with translated(self._client):
            pipeline = self._client.pipeline(transaction=False)
            for process_id in process_ids:
                pipeline.pttl(self._keys.process(role, process_id))
            left = cast("list[int]", pipeline.execute())
        return [
            0.0 if milliseconds == _ENDLESS else HEARTBEAT_TTL_SECONDS - max(0, milliseconds) / 1000
            for milliseconds in left
        ]

    def count_restarts(self, worker_ids: Sequence[str]) -> int:
        """Count workers that ended unexpectedly and were replaced, each once; return how many were not counted yet."""
        marks = [self._keys.restarted(one) for one in worker_ids]
        return int(self._count_restarts(self._client, [self._keys.restarts, *marks], [_RESTARTED_MS]))

    @translated()
    def restarts(self) -> int:
        """Return how many workers ended unexpectedly, ever."""
        with translated(self._client):
            return int(cast("bytes | None", self._client.get(self._keys.restarts)) or 0)

    @translated()
    def coming_up_seconds(self) -> float | None:
        """Return how long workers take to come up where none is ready, as the last runs saw it; None if none did."""
        with translated(self._client):
            found = cast("bytes | None", self._client.get(self._keys.coming_up))
        return None if found is None else float(found)

    @translated()
    def note_coming_up(self, seconds: float) -> None:
        """Note how long workers took to come up; the average with what was known before is kept."""
        known = self.coming_up_seconds()
        with translated(self._client):
            self._client.set(self._keys.coming_up, repr(seconds if known is None else (known + seconds) / 2))

    @translated()
    def wanted(self) -> int:
        """Return how many workers the conductor wants, over all hosts."""
        with translated(self._client):
            return int(cast("bytes | None", self._client.get(self._keys.wanted)) or 0)

    def want(self, token: int, workers: int) -> None:
        """Publish how many workers are wanted, over all hosts, and wake the supervisors.

        Raises FencedError for a `token` that is not the lease's.
        """
        self._want(self._client, [self._keys.lease, self._keys.wanted], [token, workers])
        self.wake("supervisors")

    def wake(self, whom: str) -> None:
        """Wake `workers`, `supervisors` or the `scheduler`. A lost wake-up costs latency only: all of them poll too."""
        with translated(self._client):
            self._client.publish(self._keys.wake(whom), "wake")


def _read(entry: bytes) -> Process | None:
    """Read an entry of the register; None for what another program wrote there."""
    try:
        found = msgspec.json.decode(entry, type=Process)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    possible = 0 <= found.started_at <= LATEST and 0 <= found.threads <= MOST_LANES
    return found if possible else None


def _lanes(notes: Mapping[bytes, bytes]) -> list[Lane]:
    """Read what a worker noted of its lanes; of an event that has no slot yet it notes nothing but its id."""
    found = []
    for event_id, note in notes.items():
        _window, stamp, endpoint = [*note.decode(errors=ESCAPED).split("|"), "", ""][:3] if note else ("", "", "")
        found.append(Lane(event_id.decode(errors=ESCAPED), endpoint or None, int(stamp) if stamp else None))
    return sorted(found, key=lambda lane: (lane.taken_us is None, lane.taken_us or 0, lane.event_id))


class Waker:
    """A thread that calls back whenever a channel is published to, and once after each (re)connection."""

    def __init__(self, url: str, channel: str, callback: Callable[[], None]) -> None:
        self._url = url
        self._channel = channel
        self._callback = callback
        self._stopped = threading.Event()
        self._subscriber: Any = None
        self._thread = threading.Thread(target=self._listen, name=f"waker({channel})", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more; returns when the thread has ended."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2 * _RECONNECT_SECONDS)

    def _listen(self) -> None:
        while not self._stopped.is_set():
            try:
                client = make_client(self._url)
                with client.pubsub(ignore_subscribe_messages=True) as subscriber:  # type: ignore[no-untyped-call]
                    subscriber.subscribe(self._channel)
                    self._callback()
                    self._hear(subscriber)
                client.close()
            except redis.RedisError:
                system_clock.sleep(_RECONNECT_SECONDS)

    def _hear(self, subscriber: Any) -> None:
        heard_at, asked = system_clock.monotonic(), False
        while not self._stopped.is_set():
            message = subscriber.get_message(timeout=_RECONNECT_SECONDS)
            silent_seconds = system_clock.monotonic() - heard_at
            if message is not None:
                heard_at, asked = system_clock.monotonic(), False
                if message["type"] != "pong":
                    self._callback()
            elif silent_seconds > _PING_SECONDS + _PONG_SECONDS:
                raise redis.ConnectionError("the channel is gone, and nobody said so")
            elif silent_seconds > _PING_SECONDS and not asked:
                subscriber.ping()
                asked = True
