"""The trail of an event: the calls that were made for it, each with its endpoint, its answer and how long it took.

It lives in the event's own hash and dies with it. An entry is a field of its own, `t` and a number below `LENGTH`; the
field `trail` counts the entries that were ever written, so that each takes the place of the oldest, in constant work.
The script that settles or gives back an event writes its entry in the same step, the time by Redis before it:
`seconds microseconds entry`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Entries kept of an event, the newest; the scripts reckon with it.
LENGTH = 50
#: Characters of an answer that are kept.
TEXT_LENGTH = 200


class Answer(StrEnum):
    """How a call ended; the values are what Redis and the JSON show."""

    COMPLETED = "completed"
    THROTTLED = "throttled"
    #: It failed for the moment: the event may be sent again.
    ERROR = "error"
    REJECTED = "rejected"
    #: Nobody knows: its worker died or froze, or the run was closed under it.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard of a call: the answer in words, and how many seconds it took; None where there was no answer.

    `kind` is the word in which it is counted among the troubles of its run; empty where it is none.
    """

    text: str = ""
    seconds: float | None = None
    kind: str = ""


@dataclass(frozen=True, slots=True)
class TrailCall:
    """One call of the trail. `at` is when its end was written, seconds since 1970 by the clock of Redis.

    `number` is the `attempt` that its body said; a throttled call is not counted, so the next one says the same.
    `endpoint` and `host`, the worker's, are empty where they are not known.
    """

    at: float
    run_id: str
    number: int
    endpoint: str
    answer: Answer
    text: str
    seconds: float | None
    host: str = ""


class _Entry(msgspec.Struct, array_like=True, frozen=True):
    run_id: str
    number: int
    endpoint: str
    answer: Answer
    text: str
    seconds: float | None
    host: str = ""


def encode(run_id: str, number: int, endpoint: str, answer: Answer, heard: Heard, worker_id: str = "") -> bytes:
    """Write an entry, to be put behind the time; of `worker_id` the host is kept, which it begins with."""
    text = heard.text[:TEXT_LENGTH].encode("utf-8", "backslashreplace").decode()  # an error may quote what is no text
    seconds = None if heard.seconds is None else round(heard.seconds, 3)
    return msgspec.json.encode(_Entry(run_id, number, endpoint, answer, text, seconds, worker_id.partition(":")[0]))


def read(fields: Mapping[bytes, bytes]) -> list[TrailCall]:
    """Read the trail out of an event's hash, the oldest first."""
    written = written_in(fields)
    places = (b"t%d" % (number % LENGTH) for number in range(max(1, written - LENGTH + 1), written + 1))
    return [_read(fields[place]) for place in places if place in fields]


def written_in(fields: Mapping[bytes, bytes]) -> int:
    """Return how many entries were ever written of an event."""
    return int(fields.get(b"trail", 0))


def _read(field: bytes) -> TrailCall:
    seconds, microseconds, raw = field.split(b" ", 2)
    entry = msgspec.json.decode(raw, type=_Entry)
    at = float(seconds) + float(microseconds) / 1_000_000
    return TrailCall(
        at, entry.run_id, entry.number, entry.endpoint, entry.answer, entry.text, entry.seconds, entry.host
    )
