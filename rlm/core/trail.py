"""Where an event is, and its trail: the calls made for it, each with endpoint, answer and duration.

The trail is kept in the event's own hash and deleted with it. Each entry is a field named `t` and a number below
`LENGTH`. The field `trail` counts all entries ever written, so a new entry replaces the oldest in constant time. The
script that settles or gives back an event writes the entry in the same step, with the time of Redis in front:
`seconds microseconds entry`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

#: How many entries an event keeps, the newest. The scripts rely on this number.
LENGTH = 50


class Place(StrEnum):
    """Where an event is. The values appear in the JSON."""

    QUEUED = "queued"
    PENDING = "pending"
    IN_FLIGHT = "in_flight"
    BACKING_OFF = "backing_off"
    SPENT = "spent"
    LEFTOVER = "leftover"
    COMPLETED = "completed"
    FAILED = "failed"
    #: In the ledger, but in none of its places: a bug in RLM.
    NOWHERE = "nowhere"


class Counts(msgspec.Struct, frozen=True):
    """How many events of one type are in each place; `pending` are ready to be sent now."""

    pending: int = 0
    inflight: int = 0
    backoff: int = 0
    spent: int = 0

    @property
    def unsettled(self) -> int:
        """The number of events that are not settled."""
        return self.pending + self.inflight + self.backoff + self.spent

    @property
    def open(self) -> int:
        """The number of events that this run may still send."""
        return self.unsettled - self.spent


class CallEnd(StrEnum):
    """How a call ended. The values appear in Redis and the JSON."""

    COMPLETED = "completed"
    THROTTLED = "throttled"
    #: A temporary failure: the event may be sent again.
    ERROR = "error"
    REJECTED = "rejected"
    #: Not known: the worker died or froze, or the run closed during the call.
    UNKNOWN = "unknown"


class Heard(msgspec.Struct, frozen=True):
    """The answer to a call in words, and how many seconds it took (None without an answer).

    `kind` is the word under which the run's troubles count it, empty if it is no trouble.
    """

    text: str = ""
    seconds: float | None = None
    kind: str = ""


class TrailCall(msgspec.Struct, array_like=True, frozen=True):
    """One call of the trail. `at` is when its end was written, seconds since 1970 by the clock of Redis.

    `number` is the `attempt` in the request body. A throttled call does not count, so the next call has the same
    number. `endpoint` and `host` (the worker's) are empty if unknown.
    """

    run_id: str
    number: int
    endpoint: str
    answer: CallEnd
    text: str
    seconds: float | None
    host: str = ""
    at: float = 0.0


def encode(run_id: str, number: int, endpoint: str, answer: CallEnd, heard: Heard, worker_id: str = "") -> bytes:
    """Return an entry without the time in front. Of `worker_id` it keeps the host, which is the first part."""
    text = heard.text[:200].encode("utf-8", "backslashreplace").decode()  # an error may quote invalid text
    seconds = None if heard.seconds is None else round(heard.seconds, 3)
    return msgspec.json.encode((run_id, number, endpoint, answer, text, seconds, worker_id.partition(":")[0]))


def read(fields: Mapping[bytes, bytes]) -> list[TrailCall]:
    """Return the trail in an event's hash, oldest call first."""
    written = written_in(fields)
    places = (b"t%d" % (number % LENGTH) for number in range(max(1, written - LENGTH + 1), written + 1))
    return [_read(fields[place]) for place in places if place in fields]


def written_in(fields: Mapping[bytes, bytes]) -> int:
    """Return how many entries were ever written for an event."""
    return int(fields.get(b"trail", 0))


def _read(field: bytes) -> TrailCall:
    seconds, microseconds, raw = field.split(b" ", 2)
    at = float(seconds) + float(microseconds) / 1_000_000
    return msgspec.structs.replace(msgspec.json.decode(raw, type=TrailCall), at=at)
