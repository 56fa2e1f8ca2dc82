"""The ledger: every event is in exactly one state, and each step between states is one script that checks its event.

This file has the steps of a claimed event that its call does not complete: given back, sent again later, or made a dead
letter. Claiming and completing are in turns.py; recovery of events that were lost on the way is in recovery.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs

from rlm.core.item import Reason, encode_letter, is_type_name
from rlm.core.trail import CallEnd, Counts, Heard
from rlm.ledger.claims import Claim, Held, LaneId, find_note, is_of_lane
from rlm.ledger.connect import text, translating
from rlm.ledger.scripts import Command, Part, ScriptReply
from rlm.ledger.turns import releases_in
from rlm.ledger.values import MICROSECONDS

#: How many replies are the counts of one type.
_PER_TYPE = 5

_NOTHING = Heard()


class EventCounts(ScriptReply, frozen=True):
    """What `count_events` answers; `types` has a `Counts` for each type, as names and values."""

    released: int
    types: list[Any]


class TypeCounts(ScriptReply, frozen=True):
    """How many events of a type are in each place. `boarding`: the part of `inflight` that has no slot yet."""

    pending: int
    inflight: int
    backoff: int
    spent: int
    boarding: int


def _called(
    claim: Claim, endpoint: str, answer: CallEnd, heard: Heard, *, failing: bool = False, excused: bool = False
) -> dict[str, Any]:
    """Return a call that did not complete its event, for the scripts; `failing`: a temporary failure of the endpoint.

    It spends an attempt unless it was throttled, or `excused`, because its host was the cause.
    """
    throttled = answer is CallEnd.THROTTLED
    return {
        "answer": "throttled" if throttled else "errors",
        "endpoint": endpoint,
        "failing": failing,
        "spends": not throttled and not excused,
        "kind": heard.kind,
        "entry": claim.entry(endpoint, answer, heard).decode(),
    }


class Ledger(Part):
    """Operations of the ledger. Each may be repeated; the second time changes nothing."""

    def begin_alone(self, claim: Claim) -> bool:
        """Begin to carry an event alone that its lane has waited with; return False if the claim was lost meanwhile."""
        calls = self._keys.calls(claim.worker_id)
        return bool(self._run("begin_alone", calls=calls, event_id=claim.event_id, lane=claim.lane.note))

    @translating
    def held_by(self, lane: LaneId) -> list[Held]:
        """Return the events that a lane holds according to the ledger."""
        keys = self._keys
        notes = {name: raw for name, raw in self._hgetall(keys.calls(lane.worker_id)).items() if is_of_lane(raw, lane)}
        claims = self._batch(("HMGET", keys.event(text(name)), "claims") for name in notes)
        # A claim belongs to the lane if the note was the lane's both before and after the claim was read.
        again = self._ask("HMGET", keys.calls(lane.worker_id), *notes) if notes else []
        rows = zip(notes, claims, notes.values(), again, strict=True)
        return [
            Held(text(name), int(number or 0), find_note(raw)) for name, (number,), raw, same in rows if raw == same
        ]

    def unclaim(self, lane: LaneId, run_id: str, holding: Held) -> bool:
        """Give back what a lane has claimed without knowing; return False if it has not."""
        return self._give_back(
            Claim(holding.event_id, run_id, lane, holding.number, "", 0, 0, 0, 0, "", b""), "pending"
        )

    def give_back(self, claim: Claim) -> bool:
        """Make an event pending again that was not sent; return False if the claim was lost meanwhile."""
        return self._give_back(claim, "pending")

    def postpone(self, claim: Claim, delay_seconds: float) -> bool:
        """Make an event that was not sent pending again after `delay_seconds`, without an attempt."""
        return self._give_back(claim, "backoff", delay_seconds=delay_seconds)

    def throttle(self, claim: Claim, endpoint: str, heard: Heard = _NOTHING) -> bool:
        """Make an event that `endpoint` throttled pending again, without an attempt. False if the claim was lost."""
        return self._give_back(claim, "pending", _called(claim, endpoint, CallEnd.THROTTLED, heard))

    def retry(
        self, claim: Claim, endpoint: str, delay_seconds: float, heard: Heard = _NOTHING, *, cut: bool = False
    ) -> bool:
        """Put an event back to be sent again after `delay_seconds`; it spends an attempt.

        `cut`: the run's deadline cut its call, which is not a failure of the endpoint.
        """
        called = _called(claim, endpoint, CallEnd.ERROR, heard, failing=not cut)
        return self._give_back(claim, "backoff", called, delay_seconds)

    def pass_on(self, claim: Claim, endpoint: str, heard: Heard = _NOTHING) -> bool:
        """Make an event pending again whose call failed because of its host; no attempt is spent."""
        return self._give_back(claim, "pending", _called(claim, endpoint, CallEnd.ERROR, heard, excused=True))

    def spend(self, claim: Claim, endpoint: str, heard: Heard = _NOTHING) -> bool:
        """Leave an event to the next run, because its attempts in this run are spent."""
        return self._give_back(claim, "spent", _called(claim, endpoint, CallEnd.ERROR, heard, failing=True))

    def _give_back(
        self, claim: Claim, where: str, called: dict[str, Any] | None = None, delay_seconds: float = 0.0
    ) -> bool:
        """Give an event back to `where`, with the call that was made for it, if any."""
        target = {"pending": self._keys.pending, "backoff": self._keys.backoff, "spent": self._keys.spent}[where]
        returned = self._run(
            "return_event",
            **self._claimed(claim),
            target=target(claim.type),
            run_id=claim.run_id,
            where=where,
            delay_us=round(delay_seconds * MICROSECONDS),
            called=called,
        )
        return bool(returned)

    def fail(self, claim: Claim, reason: Reason, detail: str, endpoint: str, heard: Heard = _NOTHING) -> bool:
        """Settle an event as failed: it becomes a dead letter. Return False if the claim was lost meanwhile."""
        facts = {"run_id": claim.run_id, "event": claim.event_id, "endpoint": endpoint}
        letter = encode_letter(claim.item, reason, detail, failed_at=self._now(), **facts)
        answer = CallEnd.REJECTED if reason is Reason.REJECTED else CallEnd.ERROR
        failed = self._run(
            "fail_event",
            **self._claimed(claim),
            failed=self._keys.failed,
            called=_called(claim, endpoint, answer, heard, failing=reason is Reason.ATTEMPTS_SPENT),
            dedupe_ms=self._dedupe_ms,
            letter=letter,
        )
        return bool(failed)

    def types(self) -> list[str]:
        """Return the types that have or had events in the ledger, without entries that cannot be a type's name."""
        return sorted(name.decode() for name in self._ask("SMEMBERS", self._keys.types) if is_type_name(name))

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
        keys = self._keys
        places = [
            {
                "pending": keys.pending(name),
                "inflight": keys.inflight(name),
                "backoff": keys.backoff(name),
                "spent": keys.spent(name),
            }
            for name in types
        ]
        answer = EventCounts.read(self._run("count_events", releases=keys.releases, places=places))
        counts = [Counts(**structs.asdict(TypeCounts.read(each))) for each in answer.types]
        return dict(zip(types, counts, strict=True)), answer.released

    def _claimed(self, claim: Claim) -> dict[str, Any]:
        """Return what the scripts need that settle or give back a claim."""
        return {
            "event": self._keys.event(claim.event_id),
            "inflight": self._keys.inflight(claim.type),
            "calls": self._keys.calls(claim.worker_id),
            "tally": self._keys.tally(claim.run_id),
            "event_id": claim.event_id,
            "worker": claim.worker_id,
            "claims": claim.number,
        }


def _counts(numbers: Sequence[int], types: Sequence[str], released: Mapping[str, int]) -> dict[str, Counts]:
    counts = {}
    for index, name in enumerate(types):
        pending, *rest = numbers[_PER_TYPE * index : _PER_TYPE * (index + 1)]
        counts[name] = Counts(pending, 0, *rest).release(released.get(name, 0))
    return counts
