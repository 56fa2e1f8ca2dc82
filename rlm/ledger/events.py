"""The ledger: every event in exactly one state, each step between states one script that checks what it moves.

Here is what happens to an event as it is sent: released, claimed, settled or given back. What brings back events that
were lost on the way is in recovery.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from rlm.core import trail
from rlm.core.clock import system_clock
from rlm.core.endpoint import ANSWER_SLACK_SECONDS
from rlm.core.event import Reason, encode_letter, is_type_name, type_of
from rlm.core.trail import CallEnd, Counts, Heard
from rlm.ledger.claims import Claim, ClaimCheck, ClaimTerms, Unclaimed
from rlm.ledger.connect import MICROSECONDS, text, translated, translating
from rlm.ledger.measures import read_expected
from rlm.ledger.recovery import POISON_DEATHS
from rlm.ledger.scripts import Call, Part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import redis

    from rlm.ledger.keys import Keys
    from rlm.ledger.recovery import Recovery
    from rlm.ledger.scripts import Argument, Command

#: A release that nobody claims is void after this many seconds, and its event pending again.
CLAIM_SECONDS = 1.0
#: A worker is kept free for so long for an event that is to be carried alone and has to wait, if it does not ask again.
HOLD_SECONDS = 1.0

_NOTHING = Heard()


@dataclass(frozen=True, slots=True)
class _Called:
    """A call that did not settle its event. `failing`: the endpoint failed for the moment."""

    claim: Claim
    endpoint: str
    answer: CallEnd
    heard: Heard
    failing: bool = False

    @property
    def args(self) -> list[Argument]:
        """What `return_event` gets of it."""
        counted = "throttled" if self.answer is CallEnd.THROTTLED else "errors"
        failing = self.claim.type if self.failing else ""
        entry = _entry(self.claim, self.endpoint, self.answer, self.heard)
        return [counted, self.endpoint, failing, entry, self.heard.kind]


class Ledger(Part):
    """The verbs of the ledger. Every one may be repeated: the second time changes nothing."""

    def __init__(self, client: redis.Redis, keys: Keys, dedupe_seconds: float, recovery: Recovery) -> None:
        super().__init__(client, keys)
        self._recovery = recovery
        self._dedupe_ms = round(dedupe_seconds * 1000)

    def release(
        self, token: int, run_id: str, wanted: Mapping[str, Sequence[str]], claim_seconds: float = CLAIM_SECONDS
    ) -> list[ClaimCheck]:
        """Release the first pending events of each type in `wanted`: one for each endpoint there, in that order."""
        keys = self._keys
        first = self._batch(("ZRANGE", keys.pending(name), 0, len(ends) - 1) for name, ends in wanted.items())
        found = [[text(one) for one in ids] for ids in first]
        calls: list[Call] = []
        for (name, endpoints), ids in zip(wanted.items(), found, strict=True):
            args: list[str | int] = [token, run_id, round(claim_seconds * MICROSECONDS)]
            for event_id, endpoint in zip(ids, endpoints, strict=False):
                args += [event_id, endpoint]
            events = map(keys.event, ids[: len(endpoints)])
            calls.append(([keys.lease, keys.current, keys.pending(name), keys.released(name), *events], args))
        checks = []
        for name, ids, numbers in zip(wanted, found, self._run_each("release_events", calls), strict=True):
            for event_id, number in zip(ids, numbers, strict=False):
                if number > 0:
                    checks.append(ClaimCheck(event_id, run_id, number))
                elif number < 0:
                    self._recovery.condemn(token, run_id, name, event_id)
        return checks

    @translating
    def claim(self, check: ClaimCheck, worker_id: str, revision: str, terms: ClaimTerms) -> Claim | Unclaimed:
        """Claim a released event for one lane of a worker whose configuration is `revision`, on these `terms`."""
        keys, name, run_id = self._keys, type_of(check.event_id), check.run_id
        reply = self._run(
            "claim_event",
            [
                keys.current,
                keys.run(run_id),
                keys.event(check.event_id),
                keys.released(name),
                keys.inflight(name),
                keys.pending(name),
                keys.calls(worker_id),
                keys.limits,
                keys.expected,
                keys.alone(worker_id),
            ],
            [
                run_id,
                check.number,
                check.event_id,
                worker_id,
                revision,
                round(terms.lease_seconds * MICROSECONDS),
                round(terms.expected_seconds * MICROSECONDS),
                round(ANSWER_SLACK_SECONDS * MICROSECONDS),
                name,
                POISON_DEATHS - 1,
                round(HOLD_SECONDS * MICROSECONDS) if terms.patient else 0,
                len(terms.endpoints),
                *terms.endpoints,
                *terms.budgets,
            ],
        )
        if reply[0] != b"claimed":
            return Unclaimed(text(reply[0]))
        _, remaining, wallet, item, endpoint, attempt, tries, runs, last, *told = reply
        published, limits = told[: len(terms.endpoints)], told[len(terms.endpoints) :]
        limited = zip([*terms.endpoints, *terms.budgets], limits, strict=True)
        return Claim(
            check,
            worker_id,
            int(remaining) / MICROSECONDS,
            text(wallet),
            item,
            text(endpoint),
            int(attempt),
            int(tries),
            int(runs),
            text(last),
            {one: text(limit) for one, limit in limited if limit},
            {(name, one): read_expected(raw) for one, raw in zip(terms.endpoints, published, strict=True) if raw},
        )

    def complete(
        self,
        claim: Claim,
        endpoint: str,
        seconds: float,
        answer: str = "",
        *,
        waited_seconds: float = 0.0,
        idle_seconds: float = 0.0,
    ) -> bool:
        """Settle an event as completed by `endpoint` in `seconds`; False when the claim was lost meanwhile.

        `waited_seconds` passed from its claim until the call had its slot, `idle_seconds` from its lane's last answer.
        `answer` is the answer in words, for the event's trail, as is what was `heard` in the verbs below.
        """
        args = [
            *_settle_args(claim.release, claim.worker_id),
            claim.type,
            endpoint,
            f"{seconds * 1000:.1f}",
            self._dedupe_ms,
            _entry(claim, endpoint, CallEnd.COMPLETED, Heard(answer, seconds)),
            f"{waited_seconds * 1000:.1f}",
            f"{idle_seconds * 1000:.1f}",
        ]
        keys = [*self._settle_keys(claim.release, claim.worker_id), self._keys.timings(claim.release.run_id)]
        return bool(self._run("complete_event", keys, args))

    def give_back(self, claim: Claim) -> bool:
        """Make an event pending again that was not sent; False when the claim was lost meanwhile."""
        return self.unclaim(claim.release, claim.worker_id)

    def unclaim(self, check: ClaimCheck, worker_id: str) -> bool:
        """Give back what the worker may have claimed, the answer being lost; False when it had not."""
        return self._give_back(check, worker_id, "pending")

    def throttle(self, claim: Claim, endpoint: str, heard: Heard = _NOTHING) -> bool:
        """Make an event pending again that `endpoint` throttled: no attempt is spent. False when the claim was lost."""
        called = _Called(claim, endpoint, CallEnd.THROTTLED, heard)
        return self._give_back(claim.release, claim.worker_id, "pending", called)

    def retry(
        self, claim: Claim, endpoint: str, delay_seconds: float, heard: Heard = _NOTHING, *, cut: bool = False
    ) -> bool:
        """Have an event sent again after `delay_seconds`, an attempt being spent.

        `cut`: its call was cut by the run's deadline, which is no failing of the endpoint.
        """
        called = _Called(claim, endpoint, CallEnd.ERROR, heard, failing=not cut)
        return self._give_back(claim.release, claim.worker_id, "backoff", called, delay_seconds)

    def spend(self, claim: Claim, endpoint: str, heard: Heard = _NOTHING) -> bool:
        """Leave an event to the next run, its attempts of this run being spent."""
        called = _Called(claim, endpoint, CallEnd.ERROR, heard, failing=True)
        return self._give_back(claim.release, claim.worker_id, "spent", called)

    def _give_back(
        self, check: ClaimCheck, worker_id: str, where: str, called: _Called | None = None, delay_seconds: float = 0.0
    ) -> bool:
        """Give an event back to `where`, with the call that was made for it, if one was."""
        target = {"pending": self._keys.pending, "backoff": self._keys.backoff, "spent": self._keys.spent}[where]
        args = [*_settle_args(check, worker_id), check.run_id, where, round(delay_seconds * MICROSECONDS)]
        args += called.args if called else ["", "", "", b"", ""]
        keys = [*self._settle_keys(check, worker_id), target(type_of(check.event_id))]
        return bool(self._run("return_event", keys, args))

    def fail(self, claim: Claim, reason: Reason, detail: str, endpoint: str, heard: Heard = _NOTHING) -> bool:
        """Settle an event as failed: it becomes a dead letter. False when the claim was lost meanwhile."""
        run_id, now = claim.release.run_id, system_clock.now()
        letter = encode_letter(
            claim.item, reason, detail, failed_at=now, run_id=run_id, event=claim.event_id, endpoint=endpoint
        )
        args = [
            *_settle_args(claim.release, claim.worker_id),
            claim.type,
            endpoint,
            int(reason is Reason.ATTEMPTS_SPENT),
            self._dedupe_ms,
            letter,
            _entry(claim, endpoint, CallEnd.REJECTED if reason is Reason.REJECTED else CallEnd.ERROR, heard),
            heard.kind,
        ]
        keys = [*self._settle_keys(claim.release, claim.worker_id), self._keys.failed]
        return bool(self._run("fail_event", keys, args))

    def types(self) -> list[str]:
        """Return the types that have or had events in the ledger, without entries that cannot be the name of one."""
        with translated(self._client):
            found = cast("set[bytes]", self._client.smembers(self._keys.types))
        return sorted(one.decode() for one in found if is_type_name(one))

    def count(self, types: Sequence[str]) -> dict[str, Counts]:
        """Count the events of each type by where they are, all at one instant."""
        return self.read_counts(self._batch(self.count_commands(types), transaction=True), types)

    def count_commands(self, types: Sequence[str]) -> list[Command]:
        """Return the commands whose replies `read_counts` reads."""
        commands: list[Command] = []
        for name in types:
            commands += [("ZCARD", key) for key in (self._keys.pending(name), *self._keys.holders(name))]
            commands.append(("ZCOUNT", self._keys.inflight(name), "-inf", 0))
        return commands

    def read_counts(self, replies: Sequence[int], types: Sequence[str]) -> dict[str, Counts]:
        """Read the replies to the commands of `count_commands`."""
        return {name: Counts(*replies[6 * index : 6 * index + 6]) for index, name in enumerate(types)}

    def count_retried(self, types: Sequence[str]) -> dict[str, int]:
        """Count the events of each type that enter the next run because a dead letter was retried."""
        found = self._batch((("ZCARD", self._keys.retried(name)) for name in types), transaction=True)
        return dict(zip(types, found, strict=True))

    def _settle_keys(self, check: ClaimCheck, worker_id: str) -> list[str]:
        keys, name = self._keys, type_of(check.event_id)
        return [keys.event(check.event_id), keys.inflight(name), keys.calls(worker_id), keys.tally(check.run_id)]


def _settle_args(check: ClaimCheck, worker_id: str) -> list[Argument]:
    return [check.event_id, worker_id, check.number]


def _entry(claim: Claim, endpoint: str, answer: CallEnd, heard: Heard) -> bytes:
    """Write the entry that a call leaves in its event's trail."""
    return trail.encode(claim.release.run_id, claim.attempt + 1, endpoint, answer, heard, claim.worker_id)
