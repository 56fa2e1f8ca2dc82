"""One event on its way through a lane: claim, connect, slot, send, answer, settle, in this order.

The connection is open before the slot is taken, so that the slot is used at once. From sending on the call counts,
whatever becomes of Redis: what cannot be written now is written later.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Self

from rlm.core.clock import system_clock
from rlm.core.endpoint import in_force
from rlm.core.errors import StoreError
from rlm.core.expected import call_seconds, needed_seconds
from rlm.core.failpoints import crash_point
from rlm.delivery import Request, Unreachable, UnreachableError
from rlm.delivery.effects import Answered, note_failure, refuse_unsound, report, settlement_of, try_again
from rlm.ledger.claims import Claim, ClaimTerms, Unclaimed
from rlm.ledger.limiter import Call, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rlm.core.endpoint import Endpoint, EventType
    from rlm.delivery import Connection, Dispatcher
    from rlm.delivery.effects import Rests, Settlement
    from rlm.ledger import Store
    from rlm.ledger.claims import ClaimCheck
    from rlm.ledger.limiter import Admitted
    from rlm.settings import Settings

#: The share of the guard in which a call must have left after its slot was taken; the rest is for its way.
LEAVING_SHARE = 0.4
#: How long a slot whose answer came too late to use it is asked for again, seconds.
LEAVING_TRIES_SECONDS = 1.0
#: A lease lasts one call: its time-out and this many seconds, half of them for what comes before it, half to settle it.
LEASE_SLACK_SECONDS = 2.0
#: Pause between two tries to write to a Redis that is away, seconds.
_AGAIN_SECONDS = 0.05

log = logging.getLogger(__name__)


@dataclass(slots=True)
class LaneContext:
    """One lane of a worker process, what all of its attempts work with, and when the last of them was answered."""

    store: Store
    settings: Settings
    dispatcher: Dispatcher
    worker_id: str
    rests: Rests
    number: int
    answered_at: float | None = None

    def log(self, level: int, action: str, release: ClaimCheck, message: str, *args: object) -> None:
        """Log what became of a release; in `message` the event's id comes first. An ERROR has its traceback."""
        facts = {"run_id": release.run_id, "lane": self.number, "worker": self.worker_id}
        extra = {"action": action, "event_id": release.event_id, **facts}
        log.log(level, message, release.event_id, *args, exc_info=level == logging.ERROR, extra=extra)


def lease_seconds(types: Iterable[EventType]) -> float:
    """Return how long the lease of an event of any of these types lasts."""
    return max(endpoint.timeout_seconds for one in types for endpoint in one.endpoints) + LEASE_SLACK_SECONDS


@dataclass(frozen=True, slots=True)
class _Slot:
    """A slot in hand."""

    endpoint: Endpoint
    call: Call
    admitted: Admitted
    asked_at: float
    taken_at: float


@dataclass(frozen=True, slots=True)
class _Sent:
    """A request that left, or that may have left in spite of `trouble`; its answer is awaited until `gives_up_at`."""

    slot: _Slot
    sent_at: float
    gives_up_at: float
    trouble: Unreachable | None
    late: bool


class Attempt:
    """One claimed event, from its claim to its settlement. Moments are in monotonic seconds.

    No call outlasts the run's deadline, nor `_held_until`: the rest of the lease is left for settling.
    """

    def __init__(self, lane: LaneContext, claim: Claim, event_type: EventType, claimed_at: float) -> None:
        self._lane = lane
        self._ledger = lane.store.ledger
        self._windows = lane.store.windows
        self._breaker = lane.store.breaker
        self._dispatcher = lane.dispatcher
        self._retry = lane.settings.retry
        self._claim = claim
        self._type = event_type
        self._claimed_at = claimed_at
        self._deadline = claimed_at + claim.remaining_seconds
        self._lease_ends = claimed_at + lease_seconds([event_type])
        self._held_until = self._lease_ends - LEASE_SLACK_SECONDS / 2
        self._guard_seconds = lane.settings.run.guard_seconds or float("inf")
        self._leaving_seconds = LEAVING_SHARE * self._guard_seconds

    @classmethod
    def claim(cls, lane: LaneContext, release: ClaimCheck, event_type: EventType, *, patient: bool) -> Self | Unclaimed:
        """Claim a released event; `patient` as in `ClaimTerms`."""
        claimed_at, lease = system_clock.monotonic(), lease_seconds([event_type])
        endpoints = [endpoint.name for endpoint in event_type.endpoints]
        budgets = sorted({endpoint.budget.name for endpoint in event_type.endpoints if endpoint.budget})
        terms = ClaimTerms(endpoints, lease, event_type.processing_seconds, budgets, patient=patient)
        try:
            claim = lane.store.ledger.claim(release, lane.worker_id, lane.settings.revision, terms)
        except StoreError as error:
            told = "Event %s could not be claimed, for Redis failed; its release becomes void: %s"
            lane.log(logging.INFO, "claim", release, told, error)
            _unclaim(lane, release, claimed_at + lease)
            return Unclaimed("unknown")
        if isinstance(claim, Unclaimed):
            return claim
        crash_point("worker.claimed")
        return cls(lane, claim, event_type, claimed_at)

    def finish(self) -> None:
        """Take all steps after the claim. If anything fails before the call is made, the event is given back."""
        try:
            settlement = self._deliver()
        except Exception as error:  # noqa: BLE001  # whatever it is, the event is given back
            if isinstance(error, StoreError):
                told = "Redis failed while event %s was being sent; it is given back: %s"
                self._log(logging.INFO, "give_back", told, error)
            else:
                self._log(logging.ERROR, "give_back", "Event %s could not be carried; it is given back")
            settlement = partial(self._ledger.give_back, self._claim)
        self._settle(settlement)

    def _deliver(self) -> Settlement:
        """Send the event to the first endpoint that has a slot and answers in time; return how it is to be settled."""
        if refused := refuse_unsound(self._ledger, self._claim):
            return refused
        for endpoint in _candidates(self._claim, self._type):
            begins_by = self._begins_by(endpoint)
            if system_clock.monotonic() > begins_by:
                continue
            try:
                connection = self._connect(endpoint)
            except UnreachableError as error:
                outcome = Unreachable(str(error), None, error.kind)
                note_failure(self._breaker, endpoint, outcome)
                return try_again(self._ledger, self._claim, endpoint, outcome, self._retry)
            slot = None
            try:
                slot = self._take_slot(endpoint, begins_by)
            finally:
                if slot is None:
                    self._dispatcher.keep(endpoint, connection)
            if slot is not None:
                answered = self._answer(self._send(slot, connection), connection)
                settlement = settlement_of(self._ledger, self._claim, answered, self._retry)
                return partial(self._write, answered, settlement)
        return partial(self._ledger.give_back, self._claim)

    def _begins_by(self, endpoint: Endpoint) -> float:
        """Return when a call must have begun to be answered before the deadline and within the lease."""
        needs = needed_seconds(self._type, endpoint.name, self._claim.expected)
        return min(self._deadline - needs, self._held_until - min(needs, endpoint.timeout_seconds))

    def _connect(self, endpoint: Endpoint) -> Connection:
        now = system_clock.monotonic()
        seconds = min(self._deadline - now, self._held_until - now, endpoint.timeout_seconds)
        connection = self._dispatcher.connect(endpoint, seconds)
        crash_point("worker.connected")
        return connection

    def _take_slot(self, endpoint: Endpoint, begins_by: float) -> _Slot | None:
        """Return a slot, or None if there is none, or none before `begins_by`: connecting may have taken long.

        If the answer of Redis took so long that the call would leave late, the slot is given back and asked for again:
        the event keeps its place before those that come after it.
        """
        call = Call(self._lane.worker_id, self._claim.event_id, endpoint.name)
        tries_end = system_clock.monotonic() + LEAVING_TRIES_SECONDS
        while (asked_at := system_clock.monotonic()) <= begins_by:
            admitted = self._windows.acquire(endpoint, call)
            if isinstance(admitted, Refused):
                break
            answered_at = system_clock.monotonic()
            if answered_at <= min(begins_by, asked_at + self._leaving_seconds):
                return _Slot(endpoint, call, admitted, asked_at, answered_at)
            self._windows.give_back(endpoint, admitted, call)
            if answered_at > tries_end:
                log.warning(
                    "Redis takes %.0f ms for a slot, too long to use it; event %s is given back",
                    1000 * (answered_at - asked_at),
                    call.event_id,
                    extra={"action": "give_back", "event_id": call.event_id, "endpoint": endpoint.name},
                )
                break
        return None

    def _send(self, slot: _Slot, connection: Connection) -> _Sent:
        claim, endpoint = self._claim, slot.endpoint
        # The time-out counts from here: connecting and taking a slot leave the endpoint its whole time to answer.
        gives_up_at = min(self._deadline, self._held_until, slot.taken_at + endpoint.timeout_seconds)
        crash_point("worker.slot_taken")
        request = Request(
            claim.event_id, claim.type, claim.wallet_name, claim.release.run_id, claim.attempt + 1, claim.item
        )
        trouble = self._dispatcher.send(connection, endpoint, request, gives_up_at)
        sent_at = system_clock.monotonic()
        crash_point("worker.sent")
        late = not trouble and sent_at - slot.asked_at > self._leaving_seconds
        if late:
            with suppress(StoreError):
                admitted = self._windows.block(endpoint, slot.admitted, slot.call, left_late=True)
                slot, late = replace(slot, admitted=admitted, asked_at=sent_at), False  # as if taken only now
        return _Sent(slot, sent_at, gives_up_at, trouble, late)

    def _answer(self, sent: _Sent, connection: Connection) -> Answered:
        slot, endpoint = sent.slot, sent.slot.endpoint
        outcome = sent.trouble or self._dispatcher.receive(connection, endpoint, sent.sent_at, sent.gives_up_at)
        crash_point("worker.answered")
        now = system_clock.monotonic()
        idle_since, self._lane.answered_at = self._lane.answered_at, now
        # Assume that the API read the request one typical call time before it answered. Assuming the fastest would be
        # safer, but most calls would block their slots for longer although they were read in time.
        read_at = now - call_seconds(self._type, endpoint.name, self._claim.expected)
        counts_from = read_at - self._guard_seconds
        return Answered(
            endpoint,
            slot.admitted,
            slot.call,
            outcome,
            waited_seconds=slot.taken_at - self._claimed_at,
            idle_seconds=slot.taken_at - idle_since if idle_since else 0.0,
            late=sent.late,
            counts_from=counts_from if counts_from > slot.asked_at else None,
            cut=sent.gives_up_at == self._deadline <= now,
        )

    def _write(self, answered: Answered, settlement: Settlement) -> bool:
        report(self._windows, self._breaker, answered, self._lane.rests, others=len(self._type.endpoints) > 1)
        crash_point("worker.reported")
        return settlement()

    def _settle(self, settlement: Settlement) -> None:
        """Settle the event; while Redis is away try again for as long as the lease lasts: the call has been made."""
        while True:
            try:
                settled = settlement()
            except StoreError as error:
                if system_clock.monotonic() < self._lease_ends:
                    system_clock.sleep(_AGAIN_SECONDS)
                    continue
                told = "Event %s could not be settled before its lease ended, it will be sent again: %s"
                self._log(logging.WARNING, "lose_claim", told, error)
                return
            crash_point("worker.settled")
            if not settled:
                told = "The answer for event %s came after its claim was lost; the ledger did not change"
                self._log(logging.INFO, "late_answer", told)
            return

    def _log(self, level: int, action: str, message: str, *args: object) -> None:
        self._lane.log(level, action, self._claim.release, message, *args)


def _unclaim(lane: LaneContext, release: ClaimCheck, until: float) -> None:
    """Give back an event that may have been claimed; otherwise it would wait for the end of its lease."""
    while system_clock.monotonic() < until:
        with suppress(StoreError):
            lane.store.ledger.unclaim(release, lane.worker_id)
            return
        system_clock.sleep(_AGAIN_SECONDS)


def _candidates(claim: Claim, event_type: EventType) -> Iterator[Endpoint]:
    """Yield the endpoint meant for the event first, then the type's others, last the one that failed it last."""

    def place(endpoint: Endpoint) -> tuple[bool, bool]:
        return endpoint.name == claim.last_endpoint and claim.tries > 0, endpoint.name != claim.endpoint

    for endpoint in sorted(event_type.endpoints, key=place):
        yield in_force(endpoint, claim.limits)
