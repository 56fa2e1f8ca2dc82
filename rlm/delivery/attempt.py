"""One call for one event: connect, send, receive. It ends with what the lane settles in its next turn.

The slot came with the claim. A call on a kept connection leaves at once. Without one the lane connects first, and then
moves the stamp of the slot to now, in an owned step, before it sends: a limit is about when the server reads calls.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from msgspec import Raw
from msgspec.structs import replace

from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.core.failpoints import crash_point
from rlm.delivery.http import BrokenAnswerError, Connection, Connections, Request, UnreachableError, render
from rlm.delivery.outcome import Kind, Outcome, failure_of, outcome_of, settlement_of, unsent
from rlm.ledger.turns import Claim, Settlement
from rlm.ledger.values import MICROSECONDS

if TYPE_CHECKING:
    from rlm.core.endpoint import Endpoint
    from rlm.ledger.store import Store

#: What stands in for a guard of 0, seconds: a lane that stood still for longer has lost its claim, or its slot.
LEAST_GUARD_SECONDS = 1.0
#: A call must leave within this share of the guard after its stamp; the rest is for its travel time.
LEAVING_SHARE = 0.4

log = logging.getLogger(__name__)


class Attempts:
    """Makes the calls of one lane."""

    def __init__(self, store: Store, connections: Connections, lane: int) -> None:
        settings = store.settings
        #: What types share may differ in headers, time-out and success.
        self._endpoints = {(kind.name, each.name): each for kind in settings.event_types for each in kind.endpoints}
        self._retry = settings.retry
        self._connections = connections
        self._turns, self._clock = store.turns, store.clock
        self._lane = lane
        self._guard_seconds = settings.run.guard_seconds or LEAST_GUARD_SECONDS
        self._leaving_seconds = LEAVING_SHARE * self._guard_seconds

    def make(self, claim: Claim, asked_at: float) -> Settlement:
        """Make a call that was asked for at `asked_at` (monotonic seconds); return what becomes of it."""
        crash_point("worker.claimed")
        try:
            return self._make(claim, asked_at)
        except Exception:
            extra = {"action": "give_back", "event_id": claim.event_id, "run_id": claim.run_id}
            log.exception("Event %s could not be handled", claim.event_id, extra=extra)
            fault = Outcome("RLM failed during the call; the log of its worker says how", None, Kind.BROKEN)
            return replace(settlement_of(claim, fault, self._retry, self._clock.now()), counts_us=0)

    def _make(self, claim: Claim, asked_at: float) -> Settlement:
        endpoint = self._endpoints[claim.type, claim.endpoint]
        deadline = self._clock.reached_at(claim.deadline_us)
        begins_by = deadline - claim.need_us / MICROSECONDS
        try:
            # Kept connections may be about to fail like the one of the call that failed before.
            seconds = min(deadline - system_clock.monotonic(), endpoint.timeout_seconds)
            connection = self._connections.connect(endpoint.url, seconds, fresh=claim.tries > 0)
        except UnreachableError as error:
            return settlement_of(claim, failure_of(error), self._retry, self._clock.now())
        try:
            crash_point("worker.connected")
            leaves_from = asked_at if connection.kept else system_clock.monotonic()
            slot = claim if connection.kept else self._restamped(claim)
            if slot is None or system_clock.monotonic() > min(leaves_from + self._leaving_seconds, begins_by):
                return unsent(claim)
            return self._call(slot, leaves_from, endpoint, connection, deadline)
        finally:
            self._connections.put_back(connection)

    def _restamped(self, claim: Claim) -> Claim | None:
        """Let the slot count from now; return the claim, or None if it is no longer the lane's or Redis is away."""
        try:
            restamped = self._turns.restamp(claim, self._lane)
        except StoreError:
            return None
        return replace(claim, stamp=restamped.now) if restamped.owned else None

    def _call(
        self, claim: Claim, leaves_from: float, endpoint: Endpoint, connection: Connection, deadline: float
    ) -> Settlement:
        """Send the request, with a slot that was stamped at `leaves_from` or later, and read the answer.

        The slot counts from the end of the call, when its connection was closed, if there was no answer, or if it left
        late and Redis did not say so. Otherwise the API is assumed to have read a request one typical call time before
        it answered: the fastest time would be safer, but would block the slots of most calls for longer although they
        were read in time.
        """
        # The time-out counts from here, so connecting and taking a slot do not shorten the endpoint's time to answer.
        sent_at = system_clock.monotonic()
        gives_up_at, is_late, is_sent = min(deadline, sent_at + endpoint.timeout_seconds), False, False
        crash_point("worker.slot_taken")
        number, item = claim.attempt + 1, Raw(claim.item)
        request = Request(claim.event_id, claim.type, claim.wallet_name, claim.run_id, number, item)
        try:
            connection.send(render(endpoint, request), gives_up_at)
            sent_at, is_sent = system_clock.monotonic(), True
            crash_point("worker.sent")
            is_late = sent_at > leaves_from + self._leaving_seconds
            if is_late and (restamped := self._restamped(claim)):
                claim, leaves_from, is_late = restamped, sent_at, False
            answer = connection.receive(gives_up_at)
            outcome = outcome_of(answer, endpoint, system_clock.monotonic() - sent_at)
        except (OSError, ValueError, BrokenAnswerError) as error:
            outcome = failure_of(error, system_clock.monotonic() - sent_at if is_sent else None)
        crash_point("worker.answered")
        now, counts_us = system_clock.monotonic(), None
        read_before = claim.call_us / MICROSECONDS + self._guard_seconds
        if is_late or outcome.seconds is None:
            counts_us = 0
        elif now - read_before > leaves_from:
            counts_us = round(read_before * MICROSECONDS)
        cut = gives_up_at == deadline <= now
        settlement = settlement_of(claim, outcome, self._retry, self._clock.now(), cut=cut)
        return replace(settlement, took_ms=f"{1000 * (now - sent_at):.1f}", counts_us=counts_us)
