"""The ledger: every event is in exactly one state, and each step between states is one script that checks its event.

This file has the steps of a claimed event that its call does not complete: given back, sent again later, or made a dead
letter. Claiming and completing are in turns.py; recovery of events that were lost on the way is in recovery.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from rlm.core.item import Reason, encode_letter, is_type_name
from rlm.core.trail import CallEnd, Counts, Heard
from rlm.ledger.claims import Claim, Held, LaneId, find_note, is_of_lane
from rlm.ledger.connect import text, translating
from rlm.ledger.scripts import Argument, Command, Part
from rlm.ledger.turns import releases_in
from rlm.ledger.values import MICROSECONDS

#: How many replies are the counts of one type.
_PER_TYPE = 5

_NOTHING = Heard()


class _Called(msgspec.Struct, frozen=True):
    """A call that did not settle its event. `failing`: a temporary failure of the endpoint; `excused`: of the host."""

    claim: Claim
    endpoint: str
    answer: CallEnd
    heard: Heard
    failing: bool = False
    excused: bool = False

    @property
    def args(self) -> list[Argument]:
        """The arguments of `return_event` about this call."""
        counted = "throttled" if self.answer is CallEnd.THROTTLED else "excused" if self.excused else "errors"
        failing = self.claim.type if self.failing else ""
        entry = self.claim.entry(self.endpoint, self.answer, self.heard)
        return [counted, self.endpoint, failing, entry, self.heard.kind]


class Ledger(Part):
    """Operations of the ledger. Each may be repeated; the second time changes nothing."""

    def begin_alone(self, claim: Claim) -> bool:
        """Begin to carry an event alone that its lane has waited with; return False if the claim was lost meanwhile."""
        return bool(self._run("begin_alone", [self._keys.calls(claim.worker_id)], [claim.event_id, claim.lane.note]))

    @translating
    def held_by(self, lane: LaneId) -> list[Held]:
        """Return the events that a lane holds according to the ledger."""
        keys = self._keys
        notes = {one: raw for one, raw in self._hgetall(keys.calls(lane.worker_id)).items() if is_of_lane(raw, lane)}
        claims = self._batch(("HMGET", keys.event(text(one)), "claims") for one in notes)
        # A claim belongs to the lane if the note was the lane's both before and after the claim was read.
        again = self._ask("HMGET", keys.calls(lane.worker_id), *notes) if notes else []
        found = zip(notes, claims, notes.values(), again, strict=True)
        return [Held(text(one), int(number or 0), find_note(raw)) for one, (number,), raw, same in found if raw == same]

    def unclaim(self, lane: LaneId, run_id: str, held: Held) -> bool:
        """Give back what a lane has claimed without knowing; return False if it has not."""
        return self._give_back(Claim(held.event_id, run_id, lane, held.number, "", 0, 0, 0, 0, "", b""), "pending")

    def give_back(self, claim: Claim) -> bool:
        """Make an event pending again that was not sent; return False if the claim was lost meanwhile."""
        return self._give_back(claim, "pending")

    def postpone(self, claim: Claim, delay_seconds: float) -> bool:
        """Make an event that was not sent pending again after `delay_seconds`, without an attempt."""
        return self._give_back(claim, "backoff", delay_seconds=delay_seconds)

    def throttle(self, claim: Claim, endpoint: str, heard: Heard = _NOTHING) -> bool:
        """Make an event that `endpoint` throttled pending again, without an attempt. False if the claim was lost."""
        return self._give_back(claim, "pending", _Called(claim, endpoint, CallEnd.THROTTLED, heard))

    def retry(
        self, claim: Claim, endpoint: str, delay_seconds: float, heard: Heard = _NOTHING, *, cut: bool = False
    ) -> bool:
        """Put an event back to be sent again after `delay_seconds`; it spends an attempt.

        `cut`: the run's deadline cut its call, which is not a failure of the endpoint.
        """
        called = _Called(claim, endpoint, CallEnd.ERROR, heard, failing=not cut)
        return self._give_back(claim, "backoff", called, delay_seconds)

    def pass_on(self, claim: Claim, endpoint: str, heard: Heard = _NOTHING) -> bool:
        """Make an event pending again whose call failed because of its host; no attempt is spent."""
        return self._give_back(claim, "pending", _Called(claim, endpoint, CallEnd.ERROR, heard, excused=True))

    def spend(self, claim: Claim, endpoint: str, heard: Heard = _NOTHING) -> bool:
        """Leave an event to the next run, because its attempts in this run are spent."""
        return self._give_back(claim, "spent", _Called(claim, endpoint, CallEnd.ERROR, heard, failing=True))

    def _give_back(self, claim: Claim, where: str, called: _Called | None = None, delay_seconds: float = 0.0) -> bool:
        """Give an event back to `where`, with the call that was made for it, if any."""
        target = {"pending": self._keys.pending, "backoff": self._keys.backoff, "spent": self._keys.spent}[where]
        keys, args = self._settling(claim)
        args += [claim.run_id, where, round(delay_seconds * MICROSECONDS)]
        args += called.args if called else ["", "", "", b"", ""]
        return bool(self._run("return_event", [*keys, target(claim.type)], args))

    def fail(self, claim: Claim, reason: Reason, detail: str, endpoint: str, heard: Heard = _NOTHING) -> bool:
        """Settle an event as failed: it becomes a dead letter. Return False if the claim was lost meanwhile."""
        facts = {"run_id": claim.run_id, "event": claim.event_id, "endpoint": endpoint}
        letter = encode_letter(claim.item, reason, detail, failed_at=self._now(), **facts)
        entry = claim.entry(endpoint, CallEnd.REJECTED if reason is Reason.REJECTED else CallEnd.ERROR, heard)
        keys, args = self._settling(claim)
        args += [claim.type, endpoint, int(reason is Reason.ATTEMPTS_SPENT), self._dedupe_ms, letter, entry, heard.kind]
        return bool(self._run("fail_event", [*keys, self._keys.failed], args))

    def types(self) -> list[str]:
        """Return the types that have or had events in the ledger, without entries that cannot be a type's name."""
        return sorted(one.decode() for one in self._ask("SMEMBERS", self._keys.types) if is_type_name(one))

    def count(self, types: Sequence[str]) -> dict[str, Counts]:
        """Count the events of each type by place, all at one instant."""
        return self.read_counts(self._batch(self.count_commands(types), transaction=True), types)

    def count_commands(self, types: Sequence[str]) -> list[Command]:
        """Return the commands whose replies `read_counts` reads."""
        commands: list[Command] = []
        for name in types:
            commands += [("ZCARD", key) for key in (self._keys.pending(name), *self._keys.holders(name))]
            commands.append(("ZCOUNT", self._keys.inflight(name), "-inf", 0))
        return [*commands, ("LRANGE", self._keys.releases, 0, -1)]

    def read_counts(self, replies: Sequence[Any], types: Sequence[str]) -> dict[str, Counts]:
        """Read the replies to the commands of `count_commands`."""
        *numbers, raw = replies
        return _counts(numbers, types, Counter(release.of.type for release in releases_in(raw)))

    def count_waiting(self, types: Sequence[str]) -> tuple[dict[str, Counts], int]:
        """Count like `count`, but return the released calls only as one number for all types."""
        places = [key for name in types for key in (self._keys.pending(name), *self._keys.holders(name))]
        released, *numbers = self._run("count_events", [self._keys.releases, *places], [])
        return _counts(numbers, types, {}), int(released)

    def _settling(self, claim: Claim) -> tuple[list[str], list[Argument]]:
        """Return the first keys and arguments of a script that settles or gives back a claim."""
        keys = [self._keys.event(claim.event_id), self._keys.inflight(claim.type), self._keys.calls(claim.worker_id)]
        return [*keys, self._keys.tally(claim.run_id)], [claim.event_id, claim.worker_id, claim.number]


def _counts(numbers: Sequence[int], types: Sequence[str], released: Mapping[str, int]) -> dict[str, Counts]:
    found = {}
    for index, name in enumerate(types):
        pending, *held = numbers[_PER_TYPE * index : _PER_TYPE * (index + 1)]
        found[name] = Counts(pending, 0, *held).release(released.get(name, 0))
    return found
