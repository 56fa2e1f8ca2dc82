"""What a lane works on: the event that it claims for a released call, and the note of its call.

A worker's hash `calls:WORKER` has a field for each event in its lanes, whose value is the note. It begins with the
number of the lane and a colon. Once the call has its slot, `window id|stamp|endpoint` follows and, with a budget, `|its
window id`. A minus follows while the lane waits until it can carry the event alone. The scripts put the stamp in. What
a later version adds behind another `|` is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from rlm.core import trail
from rlm.core.expected import Expected, Pair
from rlm.core.item import type_of
from rlm.core.trail import CallEnd, Heard
from rlm.ledger.connect import text
from rlm.ledger.keys import Keys

#: Slots are kept this long at least, for the log of calls sent; longer if a rule looks further back.
KEEP_SECONDS = 24 * 3600
_NOTE = re.compile(
    r"(?:(?P<lane>\d{1,9}):)?"
    r"(?:-|(?:(?P<window_id>[0-9a-f]+)\|(?P<stamp>\d{1,17})\|(?P<endpoint>[A-Za-z0-9_.-]{1,100})"
    r"(?:\|(?P<budget_id>[0-9a-f]*)(?:\|[!-~]*)?)?)?)"
)


def host_of(process_id: str) -> str:
    """Return the host of a process, whose id begins with it."""
    return process_id.partition(":")[0]


class LaneId(msgspec.Struct, frozen=True):
    """A lane of a worker; its `number` counts from 1."""

    worker_id: str
    number: int

    @property
    def host(self) -> str:
        """The host of its worker."""
        return host_of(self.worker_id)

    @property
    def note(self) -> str:
        """What begins the note of its call."""
        return f"{self.number}:"


class Claim(msgspec.Struct, frozen=True):
    """An event claimed by a lane, with what is needed to send it. It is its `number`th claim.

    `remaining_seconds` is the time to the deadline, `begin_seconds` that until the call to `endpoint` must have begun,
    `call_seconds` how long that is expected to take, `lease_seconds` how long the claim lasts. `limits` are those in
    force, by the name of endpoint or budget. With `stamp` it has its slot there, and only the limits of that; else
    `expected` is what is published of its type.
    `suspect`: the endpoint failed or rested. `alone`: the event is to be carried alone, workers have died of it.
    """

    event_id: str
    run_id: str
    lane: LaneId
    number: int
    endpoint: str
    remaining_seconds: float
    begin_seconds: float
    call_seconds: float
    lease_seconds: float
    wallet_name: str
    item: bytes
    attempt: int = 0
    tries: int = 0
    runs: int = 0
    last_endpoint: str = ""
    stamp: str = ""
    suspect: bool = False
    alone: bool = False
    limits: Mapping[str, str] = msgspec.field(default_factory=dict)
    expected: Mapping[Pair, Expected] = msgspec.field(default_factory=dict)

    @property
    def worker_id(self) -> str:
        """The id of the worker that has it."""
        return self.lane.worker_id

    @property
    def type(self) -> str:
        """The name of the event's type."""
        return type_of(self.event_id)

    def entry(self, endpoint: str, answer: CallEnd, heard: Heard) -> bytes:
        """Return the entry that a call leaves in the event's trail."""
        return trail.encode(self.run_id, self.attempt + 1, endpoint, answer, heard, self.worker_id)


class Admitted(msgspec.Struct, frozen=True):
    """A slot was taken, in the endpoint's window and its budget's. `stamp` is its id in both.

    `suspect`: the endpoint failed or rested, so a good answer is reported.
    """

    stamp: str
    suspect: bool = False


class Refused(msgspec.Struct, frozen=True):
    """No slot is free. `retry_after` is when to ask again, in seconds; None for never."""

    retry_after: float | None


class Call(msgspec.Struct, frozen=True):
    """What a slot is taken for: an event in a lane. Noted with the slot, should the worker die."""

    lane: LaneId
    event_id: str
    endpoint: str


class Held(NamedTuple):
    """An event that a lane has in hand according to the ledger, by its `number`th claim; its `call` has a slot."""

    event_id: str
    number: int
    call: CallNote | None


class Completion(msgspec.Struct, frozen=True):
    """A claimed event that `endpoint` has completed in `seconds`.

    `waited_seconds` passed from its claim until the call had its slot, `idle_seconds` from its lane's last answer.
    `answer` is the answer in words, for the event's trail. `window_id` is the endpoint's: it answers this host.
    """

    claim: Claim
    endpoint: str
    seconds: float
    answer: str = ""
    waited_seconds: float = 0.0
    idle_seconds: float = 0.0
    window_id: str = ""


class Turn(msgspec.Struct, frozen=True):
    """What came of a lane's turn. `settled`: what it had completed is; not if its claim was lost meanwhile.

    Without a `claim`, `why` is that no call is released (`none`) or none that its host can make (`shut`), the run does
    not run (`over`), or it has another configuration (`revision`). If it is `probe`, the way to the endpoint `probe`
    was shut: a lane that has connected to it may get a call there.
    """

    settled: bool
    claim: Claim | None = None
    why: str = ""
    probe: str = ""


class CallNote(NamedTuple):
    """A call with its slot. `stamp` is the slot's id: when it was taken, microseconds of Redis time."""

    window_id: str
    stamp: str
    endpoint: str
    budget_id: str = ""
    lane: str = ""

    @property
    def window_ids(self) -> list[str]:
        """The windows that the slot was taken in: the endpoint's, and its budget's if it has one."""
        return [one for one in (self.window_id, self.budget_id) if one]


def call_keys(keys: Keys, call: Call | None) -> list[str]:
    """Return the keys where a call is noted; unused ones if there is none."""
    if call is None:
        return [keys.calls(""), keys.inflight("")]
    return [keys.calls(call.lane.worker_id), keys.inflight(type_of(call.event_id))]


def write_note(lane: LaneId, endpoint: str, window_ids: Sequence[str]) -> str:
    """Write a note for a script that takes or moves the slot: it replaces `%s` by the stamp."""
    window_id, *budget_id = window_ids
    return lane.note + "|".join([window_id, "%s", endpoint, *budget_id])


def read_note(raw: bytes) -> CallNote | None:
    """Read a note; None for a call that has no slot yet.

    Raises ValueError for what is no note.
    """
    found = _NOTE.fullmatch(raw.decode())
    if found is None:
        raise ValueError(f"no call is noted so: {raw[:40]!r}")
    return CallNote(**found.groupdict(default="")) if found["stamp"] else None


def is_of_lane(raw: bytes, lane: LaneId) -> bool:
    """Return whether it is a note of this lane's call."""
    return raw.startswith(lane.note.encode())


def waits_alone(raw: bytes) -> bool:
    """Return whether it is the note of an event that its lane waits with, to carry it alone."""
    return raw.endswith(b":-")


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


class Lane(msgspec.Struct, frozen=True):
    """What one busy lane of a worker has in hand: an event, and once it has a slot where and since when.

    `taken_us` is when the slot was taken, microseconds by the clock of Redis.
    """

    event_id: str
    endpoint: str | None = None
    taken_us: int | None = None


def lanes_of(notes: Mapping[bytes, bytes]) -> list[Lane]:
    """Return what a worker has in hand by its hash of notes, the calls that are longest under way first."""
    read = ((text(event_id), read_note(raw)) for event_id, raw in notes.items())
    found = [Lane(event_id, note.endpoint, int(note.stamp)) if note else Lane(event_id) for event_id, note in read]
    return sorted(found, key=lambda lane: (lane.taken_us is None, lane.taken_us or 0, lane.event_id))
