"""What a worker has in hand: the events it has claimed, and the note of each call under way.

A worker's hash `calls:WORKER` has a field for each event in its lanes. The value is empty until the call has its slot,
then `window id|stamp|endpoint` and, with a budget, `|its window id`. The scripts put the slot's stamp into the note.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from rlm.core.event import type_of
from rlm.ledger.connect import MICROSECONDS, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rlm.core.expected import Expected, Pair

_NOTE = re.compile(r"([0-9a-f]+)\|(\d{1,17})\|([A-Za-z0-9_.-]{1,100})(?:\|([0-9a-f]+))?")


@dataclass(frozen=True, slots=True)
class ClaimCheck:
    """What a message carries of a released event, and the number of the release it belongs to."""

    event_id: str
    run_id: str
    number: int


@dataclass(frozen=True, slots=True)
class ClaimTerms:
    """What a claim depends on. It lasts for `lease_seconds`, and needs a call that fits before the deadline.

    That is the call of the fastest of the `endpoints`, as published, else `expected_seconds`. The limits in force of
    `endpoints` and `budgets` come with the claim. An event to be carried alone is not `patient` any more once it has
    waited longer than a call lasts: what the worker is still said to have in hand then is nobody's.
    """

    endpoints: Sequence[str]
    lease_seconds: float
    expected_seconds: float
    budgets: Sequence[str] = ()
    patient: bool = True


@dataclass(frozen=True, slots=True)
class Claim:
    """An event claimed by one lane, with what is needed to send it. `remaining_seconds` is the time to the deadline.

    `limits` are those in force, by the name of endpoint or budget; `expected` is what is published of its type's calls.
    """

    release: ClaimCheck
    worker_id: str
    remaining_seconds: float
    wallet_name: str
    item: bytes
    endpoint: str
    attempt: int
    tries: int
    runs: int
    last_endpoint: str
    limits: Mapping[str, str] = field(default_factory=dict)
    expected: Mapping[Pair, Expected] = field(default_factory=dict)

    @property
    def event_id(self) -> str:
        """The event's id, which is its Idempotency-Key."""
        return self.release.event_id

    @property
    def type(self) -> str:
        """The name of the event's type."""
        return type_of(self.release.event_id)


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """There is nothing to do: the release is `stale`, the event is too `late`, the worker's `revision` is old.

    Or the worker carries another one `alone`, or is kept free for it, and the event is pending again. Or it is itself
    to be carried alone and `waits` until the worker has nothing in hand: it stays released, to be claimed again soon.
    """

    why: str


class CallNote(NamedTuple):
    """A call with its slot. `stamp` is the slot's id: when it was taken, microseconds of Redis time."""

    window_id: str
    stamp: str
    endpoint: str
    budget_id: str = ""

    @property
    def window_ids(self) -> list[str]:
        """The windows that the slot was taken in: the endpoint's, and its budget's if it has one."""
        return [one for one in (self.window_id, self.budget_id) if one]


def write_note(endpoint: str, window_ids: list[str]) -> str:
    """Write a note for a script that takes or moves the slot: it replaces `%s` by the stamp."""
    window_id, *budget_id = window_ids
    return "|".join([window_id, "%s", endpoint, *budget_id])


def read_note(raw: bytes) -> CallNote | None:
    """Read a note; None for a call that has no slot yet.

    Raises ValueError for what is no note.
    """
    if not raw:
        return None
    found = _NOTE.fullmatch(raw.decode())
    if found is None:
        raise ValueError(f"no call is noted so: {raw[:40]!r}")
    return CallNote(*found.groups(default=""))


def is_note(raw: bytes) -> bool:
    """Return whether `read_note` can read it."""
    try:
        read_note(raw)
    except ValueError:
        return False
    return True


def find_note(raw: bytes | None) -> CallNote | None:
    """Read a note as `read_note` does; None also for what is no note."""
    return read_note(raw) if raw and is_note(raw) else None


@dataclass(frozen=True, slots=True)
class Lane:
    """What one busy lane of a worker has in hand: an event, and once it has a slot where and since when.

    `taken_us` is when the slot was taken, microseconds by the clock of Redis.
    """

    event_id: str
    endpoint: str | None = None
    taken_us: int | None = None


@dataclass(frozen=True, slots=True)
class CallUnderway:
    """A call that took its slot `age_seconds` ago and has no answer yet."""

    type: str
    endpoint: str
    age_seconds: float


def lanes_of(notes: Mapping[bytes, bytes]) -> list[Lane]:
    """Return what a worker has in hand by its hash of notes, the calls that are longest under way first."""
    found = []
    for event_id, raw in notes.items():
        note = read_note(raw)
        name = text(event_id)
        found.append(Lane(name, note.endpoint, int(note.stamp)) if note else Lane(name))
    return sorted(found, key=lambda lane: (lane.taken_us is None, lane.taken_us or 0, lane.event_id))


def calls_underway(notes: Mapping[bytes, bytes], now_us: int) -> Iterator[CallUnderway]:
    """Yield a worker's calls that have a slot; `now_us` is the time of Redis, microseconds."""
    for lane in lanes_of(notes):
        if lane.endpoint and lane.taken_us is not None:
            age_seconds = max(0, now_us - lane.taken_us) / MICROSECONDS
            yield CallUnderway(type_of(lane.event_id), lane.endpoint, age_seconds)
