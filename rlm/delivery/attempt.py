"""One claimed event in a lane: connect, take a slot, send, receive the answer, settle, in this order.

The slot of a first attempt came with the claim. If connecting took so long that the call would leave late, that slot is
given back, and another is taken now that the connection is open. Once sent, the call counts even if Redis fails; what
cannot be written now is written later.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from rlm.core.clock import system_clock
from rlm.core.endpoint import LEASE_SLACK_SECONDS, Endpoint, EventType, all_limited, in_force
from rlm.core.errors import StoreError
from rlm.core.expected import call_seconds, needed_seconds
from rlm.core.failpoints import crash_point
from rlm.delivery.candidates import Candidates, choose_last, endpoints_for
from rlm.delivery.connection import Connection, UnreachableError
from rlm.delivery.http_message import Request
from rlm.delivery.outcome import (
    Answered,
    Delivered,
    Settlement,
    Undelivered,
    Unreachable,
    completion_of,
    refuse_unsound,
    settlement_of,
    try_again,
)
from rlm.ledger.claims import Admitted, Call, Refused

if TYPE_CHECKING:
    from rlm.delivery.lane import LaneContext
    from rlm.ledger.claims import Claim, Completion

#: A call must leave within this share of the guard after its slot was requested; the rest is for its travel time.
LEAVING_SHARE = 0.4
#: For how long a slot is requested again if Redis answers too late to use it, seconds.
LEAVING_TRIES_SECONDS = 1.0
#: Pause between attempts to write while Redis is away, or to get a slot while it is slow, seconds.
AGAIN_SECONDS = 0.05

log = logging.getLogger(__name__)


class _Slot(Struct, frozen=True):
    """A slot that was taken and not used yet."""

    endpoint: Endpoint
    call: Call
    admitted: Admitted
    asked_at: float
    taken_at: float


class _Sent(Struct, frozen=True):
    """A request that left, or may have left despite `trouble`; its answer is awaited until `gives_up_at`."""

    slot: _Slot
    sent_at: float
    gives_up_at: float
    trouble: Unreachable | None
    late: bool


class Attempt:
    """One claimed event, from its claim to its settlement. Moments are in monotonic seconds.

    No call outlasts the run's deadline or `_held_until`; the rest of the lease is reserved for settling.
    """

    def __init__(
        self, lane: LaneContext, claim: Claim, event_type: EventType, asked_at: float, deadline: float
    ) -> None:
        """Begin with a claim that was requested at `asked_at`; its run ends at `deadline`."""
        self._lane = lane
        self._ledger = lane.store.ledger
        self._windows = lane.store.windows
        self._health = lane.health
        self._dispatcher = lane.dispatcher
        self._retry = lane.settings.retry
        self._claim = claim
        self._is_retry = claim.tries > 0  # kept connections may be about to fail like the one of the failed call
        self._type = event_type
        self._asked_at = asked_at
        self._claimed_at = system_clock.monotonic()
        self._deadline = deadline
        self.lease_ends = asked_at + claim.lease_seconds
        self._held_until = self.lease_ends - LEASE_SLACK_SECONDS / 2
        self._guard_seconds = lane.settings.run.guard_seconds or float("inf")
        self._leaving_seconds = LEAVING_SHARE * self._guard_seconds
        self._has_slot = bool(claim.stamp)

    def finish(self) -> Completion | None:
        """Take all steps after the claim; return a completion if one is still to be settled.

        If anything fails before the call is made, the event is given back.
        """
        try:
            answered = self._deliver()
        except Exception as error:  # noqa: BLE001  # the event is given back after any error
            if isinstance(error, StoreError):
                message = "Redis failed while event %s was being sent; it is given back: %s"
                self._lane.log(logging.INFO, "give_back", self._claim, message, error)
            else:
                message = "Event %s could not be handled; it is given back"
                self._lane.log(logging.ERROR, "give_back", self._claim, message)
            answered = partial(self._ledger.give_back, self._claim)
        if not isinstance(answered, Answered):
            self._lane.settle(self._claim, answered, self.lease_ends)
            return None
        if isinstance(answered.outcome, Delivered):
            self._report(answered)
            return completion_of(self._claim, answered, answered.outcome)
        self._lane.settle(self._claim, partial(self._write, answered, answered.outcome), self.lease_ends)
        return None

    def _deliver(self) -> Answered | Settlement:
        """Send the event to the first endpoint with a slot that can answer in time; return what came of it."""
        if refused := refuse_unsound(self._ledger, self._claim):
            self._return_slot()
            return refused
        choice = self._choose()
        for endpoint in choice.endpoints:
            if system_clock.monotonic() > (begins_by := self._begins_by(endpoint)):
                continue
            try:
                connection = self._connect(endpoint)
            except UnreachableError as error:
                self._return_slot()
                excused = self._health.fail(endpoint, error.outcome)
                return try_again(self._ledger, self._claim, endpoint, error.outcome, self._retry, excused=excused)
            slot = None
            try:
                slot = self._slot_in_hand() or self._take_slot(endpoint, begins_by)
            finally:
                if slot is None:
                    self._dispatcher.keep(endpoint, connection)
            if slot is not None:
                return self._call_with(slot, connection)
        self._return_slot()
        if choice.wait_seconds is not None:
            return partial(self._ledger.postpone, self._claim, choice.wait_seconds)
        return partial(self._ledger.give_back, self._claim)

    def _choose(self) -> Candidates:
        """Return the endpoints to try now; the last attempt of a run is no probe if that can be helped."""
        if self._has_slot:  # the claim has only the limits of that endpoint
            return Candidates([self._endpoint])
        endpoints = endpoints_for(self._claim, self._type)
        reached = [each for each in endpoints if self._health.reaches(each)]
        # The endpoint that the call was released for is tried even if this host does not reach it.
        tried = [each for each in endpoints if each in reached or each.name == self._claim.endpoint]
        if len(tried) > 1 and self._is_retry and self._claim.tries + 1 >= self._retry.max_attempts:
            _, views = self._windows.look(all_limited(reached))
            left = self._deadline - system_clock.monotonic()
            return choose_last(tried, {each.name: left - self._needs(each) for each in reached}, views)
        return Candidates(tried)

    def _call_with(self, slot: _Slot, connection: Connection) -> Answered | Settlement:
        """Make the call that a slot was taken for, unless the lease has ended meanwhile."""
        if self._lease_is_over:
            self._dispatcher.keep(slot.endpoint, connection)
            self._windows.give_back(slot.endpoint, slot.admitted, slot.call)
            return partial(self._ledger.give_back, self._claim)
        return self._answer(self._send(slot, connection), connection)

    @property
    def _lease_is_over(self) -> bool:
        """Whether the event may belong to another worker by now."""
        return system_clock.monotonic() > self.lease_ends

    def _slot_in_hand(self) -> _Slot | None:
        """Return the slot that came with the claim, if any; give it back if it is too late to use it."""
        now = system_clock.monotonic()
        if self._has_slot and now <= self._asked_at + self._leaving_seconds:
            endpoint, admitted = self._endpoint, Admitted(self._claim.stamp, suspect=self._claim.suspect)
            return _Slot(endpoint, self._call(endpoint), admitted, self._asked_at, now)
        self._return_slot()
        return None

    def _return_slot(self) -> None:
        if self._has_slot:
            self._has_slot = False
            self._windows.give_back(self._endpoint, Admitted(self._claim.stamp), self._call(self._endpoint))

    @property
    def _endpoint(self) -> Endpoint:
        """The endpoint that the call was released for, with the limits in force."""
        name = self._claim.endpoint
        return in_force(next(one for one in self._type.endpoints if one.name == name), self._claim.limits)

    def _call(self, endpoint: Endpoint) -> Call:
        return Call(self._lane.id, self._claim.event_id, endpoint.name)

    def _begins_by(self, endpoint: Endpoint) -> float:
        """Return by when a call must begin to be answered before the deadline and within the lease."""
        needs = self._needs(endpoint)
        return min(self._deadline - needs, self._held_until - min(needs, endpoint.timeout_seconds))

    def _needs(self, endpoint: Endpoint) -> float:
        if endpoint.name == self._claim.endpoint:
            return self._claim.remaining_seconds - self._claim.begin_seconds
        return needed_seconds(self._type, endpoint.name, self._claim.expected)

    def _connect(self, endpoint: Endpoint) -> Connection:
        now = system_clock.monotonic()
        seconds = min(self._deadline - now, self._held_until - now, endpoint.timeout_seconds)
        connection = self._dispatcher.connect(endpoint, seconds, fresh=self._is_retry)
        crash_point("worker.connected")
        return connection

    def _take_slot(self, endpoint: Endpoint, begins_by: float) -> _Slot | None:
        """Return a slot; None if there is none, or if `begins_by` has passed because connecting took long.

        If Redis answered so late that the call would leave late, the slot is given back and requested again, so that
        the event keeps its place before later ones.
        """
        call = self._call(endpoint)
        tries_end = system_clock.monotonic() + LEAVING_TRIES_SECONDS
        while (asked_at := system_clock.monotonic()) <= begins_by:
            admitted = self._windows.acquire(endpoint, call)
            if isinstance(admitted, Refused):
                break
            answered_at = system_clock.monotonic()
            if answered_at <= min(begins_by, asked_at + self._leaving_seconds):
                suspect = admitted.suspect or (self._claim.suspect and endpoint.name == self._claim.endpoint)
                return _Slot(endpoint, call, structs.replace(admitted, suspect=suspect), asked_at, answered_at)
            self._windows.give_back(endpoint, admitted, call)
            if answered_at > tries_end:
                message = "Redis takes %.0f ms for a slot, too long to use it; event %s is given back"
                extra = {"action": "give_back", "event_id": call.event_id, "endpoint": endpoint.name}
                log.warning(message, 1000 * (answered_at - asked_at), call.event_id, extra=extra)
                break
            system_clock.sleep(AGAIN_SECONDS)  # with a small guard it would otherwise be asked hundreds of times
        return None

    def _send(self, slot: _Slot, connection: Connection) -> _Sent:
        claim, endpoint = self._claim, slot.endpoint
        # The time-out counts from here, so connecting and taking a slot do not shorten the endpoint's time to answer.
        gives_up_at = min(self._deadline, self._held_until, slot.taken_at + endpoint.timeout_seconds)
        crash_point("worker.slot_taken")
        request = Request(claim.event_id, claim.type, claim.wallet_name, claim.run_id, claim.attempt + 1, claim.item)
        trouble = self._dispatcher.send(connection, endpoint, request, gives_up_at)
        sent_at = system_clock.monotonic()
        crash_point("worker.sent")
        late = not trouble and sent_at - slot.asked_at > self._leaving_seconds
        if late:
            with suppress(StoreError):
                admitted = self._windows.block(endpoint, slot.admitted, slot.call, left_late=True)
                slot, late = structs.replace(slot, admitted=admitted, asked_at=sent_at), False  # as if taken now
        return _Sent(slot, sent_at, gives_up_at, trouble, late)

    def _answer(self, sent: _Sent, connection: Connection) -> Answered:
        slot, endpoint = sent.slot, sent.slot.endpoint
        outcome = sent.trouble or self._dispatcher.receive(connection, endpoint, sent.sent_at, sent.gives_up_at)
        crash_point("worker.answered")
        now = system_clock.monotonic()
        idle_since, self._lane.answered_at = self._lane.answered_at, now
        # Assume that the API read the request one typical call time before it answered. Assuming the fastest time would
        # be safer, but would block the slots of most calls for longer although they were read in time.
        claim, meant = self._claim, endpoint.name == self._claim.endpoint
        usual = claim.call_seconds if meant else call_seconds(self._type, endpoint.name, claim.expected)
        counts_from = now - usual - self._guard_seconds
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
            stale=self._lease_is_over,
        )

    def _write(self, answered: Answered, outcome: Undelivered) -> bool:
        excused = self._report_once(answered)
        return settlement_of(self._ledger, self._claim, answered, outcome, self._retry, excused=excused)()

    def _report_once(self, answered: Answered) -> bool:
        excused = self._health.report(answered, others=len(self._type.endpoints) > 1)
        crash_point("worker.reported")
        return excused

    def _report(self, answered: Answered) -> None:
        """Report a call that completed its event; if Redis is away, try again until the lease ends."""
        while True:
            try:
                self._report_once(answered)
            except StoreError:
                if system_clock.monotonic() < self.lease_ends:
                    system_clock.sleep(AGAIN_SECONDS)
                    continue
            return
