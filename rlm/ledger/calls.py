"""The call note: what is kept of each call under way, for whoever has to clean up after its worker.

A worker's hash `calls:WORKER` has a field for each event in its lanes. The value is empty until the call has its slot,
then `window id|stamp|endpoint` and, with a budget, `|its window id`. The scripts put the slot's stamp into the note.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rlm.core.event import type_of
from rlm.ledger.connect import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NOTE = re.compile(r"([0-9a-f]+)\|(\d{1,17})\|([A-Za-z0-9_.-]{1,100})(?:\|([0-9a-f]+))?")
_MICROSECONDS = 1_000_000


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
            age_seconds = max(0, now_us - lane.taken_us) / _MICROSECONDS
            yield CallUnderway(type_of(lane.event_id), lane.endpoint, age_seconds)
