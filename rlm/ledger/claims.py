"""What a lane works on: the event that it claims for a released call, and the note of its call.

A worker's hash `calls:WORKER` has a field for each event in its lanes; the value is the note. It begins with the number
of the lane and a colon. Once the call has its slot, `window id|stamp|endpoint` follows and, with a budget,
`|its window id`. A minus follows instead while the lane waits to carry the event alone. The scripts fill in the stamp.
Anything that a later version adds after another `|` is ignored.
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

#: Slots are kept at least this long, for the log of calls sent; longer if a rule has a longer period.
KEEP_SECONDS = 24 * 3600
_NOTE = re.compile(
    r"(?:(?P<lane>\d{1,9}):)?"
    r"(?:-|(?:(?P<window_id>[0-9a-f]+)\|(?P<stamp>\d{1,17})\|(?P<endpoint>[A-Za-z0-9_.-]{1,100})"
    r"(?:\|(?P<budget_id>[0-9a-f]*)(?:\|[!-~]*)?)?)?)"
)


def host_of(process_id: str) -> str:
    """Return the host of a process, which is the first part of its id."""
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
        """The beginning of the note of its call."""
        return f"{self.number}:"


class Claim(msgspec.Struct, frozen=True):
    """An event claimed by a lane, with what is needed to send it. This is its claim number `number`.

    `remaining_seconds` is the time to the deadline, `begin_seconds` the time by which the call to `endpoint` must
    begin, `call_seconds` its expected duration, `lease_seconds` how long the claim lasts. `limits` are those in force,
    by the name of endpoint or budget. With a `stamp`, it has a slot at that endpoint and only that one's limits;
    without, `expected` is what is published of its type. `suspect`: the endpoint failed or rested. `alone`: the event
    must be carried alone because workers died of it.
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
        """The id of the worker that holds it."""
        return self.lane.worker_id

    @property
    def type(self) -> str:
        """The name of the event's type."""
        return type_of(self.event_id)

    def entry(self, endpoint: str, answer: CallEnd, heard: Heard) -> bytes:
        """Return the entry that a call leaves in the event's trail."""
        return trail.encode(self.run_id, self.attempt + 1, endpoint, answer, heard, self.worker_id)


class Admitted(msgspec.Struct, frozen=True):
    """A slot was taken, in the windows of the endpoint and its budget. `stamp` is its id in both.

    `suspect`: the endpoint failed or rested, so a good answer must be reported.
    """

    stamp: str
    suspect: bool = False


class Refused(msgspec.Struct, frozen=True):
    """No slot is free. `retry_after` is the number of seconds until it makes sense to ask again; None for never."""

    retry_after: float | None


class Call(msgspec.Struct, frozen=True):
    """What a slot is taken for: an event in a lane. Noted with the slot in case the worker dies."""

    lane: LaneId
    event_id: str
    endpoint: str


class Held(NamedTuple):
    """An event that a lane holds according to the ledger, by its claim number; its `call` is one with a slot."""

    event_id: str
    number: int
    call: CallNote | None


class Completion(msgspec.Struct, frozen=True):
    """A claimed event that `endpoint` has completed in `seconds`.

    `waited_seconds` is the time from its claim to its slot, `idle_seconds` from its lane's last answer. `answer` is the
    answer in words, for the trail. `window_id` is the endpoint's, to note that it answers this host.
    """

    claim: Claim
    endpoint: str
    seconds: float
    answer: str = ""
    waited_seconds: float = 0.0
    idle_seconds: float = 0.0
    window_id: str = ""


class Turn(msgspec.Struct, frozen=True):
    """The result of a lane's turn. `settled`: its completed event is settled; false if the claim was lost meanwhile.

    Without a `claim`, `why` says why: no call is released (`none`), or none that this host can make (`shut`), the run
    is not running (`over`), or it has another configuration (`revision`). If it is `probe`, the way to the endpoint
    `probe` was shut: a lane that has connected to it may get a call there.
    """

    settled: bool
    claim: Claim | None = None
    why: str = ""
    probe: str = ""


class CallNote(NamedTuple):
    """A call with its slot. `stamp` is the slot's id: the time it was taken, microseconds of Redis time."""

    window_id: str
    stamp: str
    endpoint: str
    budget_id: str = ""
    lane: str = ""

    @property
    def window_ids(self) -> list[str]:
        """The windows of the slot: the endpoint's, and its budget's if it has one."""
        return [window_id for window_id in (self.window_id, self.budget_id) if window_id]


def call_keys(keys: Keys, call: Call | None) -> dict[str, str]:
    """Return the keys where a call is noted, by their names in scripts; unused keys if there is no call."""
    worker_id, event_type = (call.lane.worker_id, type_of(call.event_id)) if call else ("", "")
    return {"calls": keys.calls(worker_id), "inflight": keys.inflight(event_type)}


def write_note(lane: LaneId, endpoint: str, window_ids: Sequence[str]) -> str:
    """Return a note for a script that takes or moves the slot and replaces `%s` with the stamp."""
    window_id, *budget_id = window_ids
    return lane.note + "|".join([window_id, "%s", endpoint, *budget_id])


def read_note(raw: bytes) -> CallNote | None:
    """Return a parsed note; None for a call that has no slot yet.

    Raises ValueError if it is not a note.
    """
    match = _NOTE.fullmatch(raw.decode())
    if match is None:
        raise ValueError(f"no call is noted so: {raw[:40]!r}")
    return CallNote(**match.groupdict(default="")) if match["stamp"] else None


def is_of_lane(raw: bytes, lane: LaneId) -> bool:
    """Return whether a note is of a call in this lane."""
    return raw.startswith(lane.note.encode())


def waits_alone(raw: bytes) -> bool:
    """Return whether a note is of an event that its lane waits to carry alone."""
    return raw.endswith(b":-")


def is_note(raw: bytes) -> bool:
    """Return whether `read_note` can read it."""
    try:
        read_note(raw)
    except ValueError:
        return False
    return True


def find_note(raw: bytes | None) -> CallNote | None:
    """Return a parsed note like `read_note`; None also if it is not a note."""
    return read_note(raw) if raw and is_note(raw) else None


class Lane(msgspec.Struct, frozen=True):
    """What a busy lane of a worker holds: an event and, once it has a slot, the endpoint and since when.

    `taken_us` is when the slot was taken, microseconds by the clock of Redis.
    """

    event_id: str
    endpoint: str | None = None
    taken_us: int | None = None


def lanes_of(notes: Mapping[bytes, bytes]) -> list[Lane]:
    """Return what a worker holds according to its hash of notes, the longest running calls first."""
    read = ((text(event_id), read_note(raw)) for event_id, raw in notes.items())
    lanes = [Lane(event_id, note.endpoint, int(note.stamp)) if note else Lane(event_id) for event_id, note in read]
    return sorted(lanes, key=lambda lane: (lane.taken_us is None, lane.taken_us or 0, lane.event_id))
