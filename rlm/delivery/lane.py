"""The lanes of a worker process. Each takes one turn after the other while calls are released.

A turn is one step in Redis: it settles what the lane has completed and claims its next event. An event in whose lease
workers died is carried alone: its lane waits until the others have nothing in hand, and they take no turns meanwhile.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import msgspec

from rlm.core.clock import system_clock
from rlm.core.errors import StoreError, StoreUnreachableError
from rlm.core.failpoints import crash_point
from rlm.delivery.attempt import AGAIN_SECONDS, Attempt
from rlm.delivery.connection import UnreachableError
from rlm.delivery.deadline import DeadlineEstimate
from rlm.delivery.health import HealthKeeper
from rlm.delivery.http import Dispatcher
from rlm.delivery.outcome import Settlement
from rlm.delivery.run_end import OverdueWatch
from rlm.ledger import Store
from rlm.ledger.claims import Admitted, Call, Claim, Completion, LaneId, Turn, host_of
from rlm.settings import Settings

log = logging.getLogger(__name__)

#: Seconds a lane rests if its worker carries an event alone, or if its host cannot make the released calls; and seconds
#: between the checks of a lane that waits to carry an event alone.
_PAUSE_SECONDS = 0.25
_LOOK_SECONDS = 0.02
#: Pause between attempts to settle an event whose lease has ended, seconds; Redis may be away for long.
_OVERDUE_SECONDS = 0.5


class LaneContext(msgspec.Struct):
    """One lane of a worker process, the tools of its attempts, and when its last attempt was answered.

    `unsettled` are the events whose calls were made but could not be settled before their leases ended. `leaving`
    returns whether the worker is about to end.
    """

    id: LaneId
    store: Store
    settings: Settings
    dispatcher: Dispatcher
    health: HealthKeeper
    leaving: Callable[[], bool]
    answered_at: float | None = None
    unsettled: set[str] = msgspec.field(default_factory=set)

    def log(self, level: int, action: str, claim: Claim, message: str, *args: object) -> None:
        """Log what happened to a claim; the event's id is the first argument of `message`. An ERROR has a traceback."""
        facts = {"run_id": claim.run_id, "lane": self.id.number, "worker": self.id.worker_id}
        extra = {"action": action, "event_id": claim.event_id, **facts}
        log.log(level, message, claim.event_id, *args, exc_info=level == logging.ERROR, extra=extra)

    def settle(self, claim: Claim, settlement: Settlement, until: float) -> None:
        """Settle an event; if Redis refuses, try again `until` its lease ends, because the call has been made.

        While Redis is away nobody else can take the event, so the lane keeps trying, unless its worker must end.
        """
        while True:
            try:
                settled = settlement()
            except StoreError as error:
                overdue = system_clock.monotonic() >= until
                if not overdue or (isinstance(error, StoreUnreachableError) and not self.leaving()):
                    system_clock.sleep(_OVERDUE_SECONDS if overdue else AGAIN_SECONDS)
                    continue
                message = "Event %s could not be settled before its lease ended; it will be sent again: %s"
                self.log(logging.WARNING, "lose_claim", claim, message, error)
                self.unsettled.add(claim.event_id)
                return
            self.settled(claim, well=settled)
            return

    def settled(self, claim: Claim, *, well: bool) -> None:
        """Record that the ledger has the answer; not `well` if the claim was lost meanwhile."""
        crash_point("worker.settled")
        if not well:
            message = "The answer for event %s came after its claim was lost; the ledger did not change"
            self.log(logging.INFO, "late_answer", claim, message)


class Lanes:
    """The lanes of one worker process; `carry` is called by one thread per lane."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        dispatcher: Dispatcher,
        worker_id: str,
        on_change: Callable[[], object] = lambda: None,
    ) -> None:
        """Carry events for the worker `worker_id`; call `on_change` when it stops resting, or has become outdated."""
        self._store = store
        self._settings = settings
        self._dispatcher = dispatcher
        self._worker_id = worker_id
        self._types = {event_type.name: event_type for event_type in settings.event_types}
        self._on_change = on_change
        self._longest_lease = max(event_type.lease_seconds for event_type in settings.event_types)
        #: Checks whether the run of these lanes is closed in time.
        self.overdue = OverdueWatch(store)
        self._deadline = DeadlineEstimate()
        self._health = HealthKeeper(store, host_of(worker_id), len(settings.endpoints))
        self._numbers = itertools.count(1)
        #: Endpoints to which a lane has connected as a probe, until a lane has a call for them.
        self._reached: set[str] = set()
        self._idle: list[LaneContext] = []
        self._lock = threading.Lock()
        #: The numbers of the lanes that take turns, and of the lane that carries its event alone.
        self._busy: set[int] = set()
        self._alone: int | None = None
        #: No lane took turns when the worker last asked; it is told when one does.
        self._resting = False
        #: The open run has another configuration, so this worker must be replaced.
        self.outdated = False
        #: This worker is about to end.
        self.leaving = False

    def rest(self) -> bool:
        """Return whether no lane takes turns; if so, `on_change` is called when one is about to."""
        with self._lock:
            self._resting = not self._busy
        return self._resting

    def carry(self, run_id: str) -> None:
        """Carry events of a run until no call is released. Each is settled or given back, or its lease ends."""
        crash_point("worker.fetched")
        self.overdue.expect(run_id)
        with self._lock:
            lane = self._idle.pop() if self._idle else self._make_lane()
        try:
            why = self._take_turns(lane, run_id)
        finally:
            self._busy.discard(lane.id.number)
            self._idle.append(lane)
        if self._alone is not None or why == "shut":
            system_clock.sleep(_PAUSE_SECONDS)  # otherwise it would be sent here again at once, in vain
        if self.outdated:
            self._on_change()

    def _take_turns(self, lane: LaneContext, run_id: str) -> str:
        """Take turns until there is a reason to stop; return it as a turn gives it, empty for other reasons."""
        completed: Completion | None = None
        while self._may_turn(lane):
            asked_at = system_clock.monotonic()
            turn = self._turn(lane, run_id, completed)
            if turn.probe and self._reach(turn.probe):
                completed = None
                continue
            if turn.claim is None:
                self.outdated |= turn.why == "revision"
                return "shut" if turn.probe else turn.why
            self._reached.discard(turn.claim.endpoint)
            left_seconds = turn.claim.remaining_seconds
            deadline = self._deadline.refine(run_id, asked_at, system_clock.monotonic(), left_seconds)
            self.overdue.expect(run_id, deadline)
            completed = self._attempt(lane, turn.claim, asked_at, deadline)
        if completed is not None:
            self._complete(lane, completed)
        return ""

    def _may_turn(self, lane: LaneContext) -> bool:
        """Return whether a lane may take another turn; not while another lane carries its event alone."""
        with self._lock:
            if self._alone is not None or self.leaving or self.outdated:
                return False
            self._busy.add(lane.id.number)
            if self._resting:
                self._resting = False
                self._on_change()
            return True

    def _turn(self, lane: LaneContext, run_id: str, completed: Completion | None) -> Turn:
        with_slot = not self._dispatcher.in_doubt  # otherwise connecting may take longer than a slot may wait
        try:
            turn = self._store.turns.take(lane.id, run_id, completed, tuple(self._reached), with_slot=with_slot)
        except StoreError as error:
            log.info("A lane could not take its turn, because Redis failed: %s", error, extra={"action": "claim"})
            if completed is not None:
                self._complete(lane, completed)
            self._give_back_unknown(lane, run_id)
            return Turn(settled=False, why="unknown")
        if completed is not None:
            lane.settled(completed.claim, well=turn.settled)
        return turn

    def _reach(self, name: str) -> bool:
        """Connect to an endpoint whose way was shut; return whether that succeeded. No event waits meanwhile."""
        endpoint = self._settings.endpoints.get(name)
        if endpoint is None:  # the conductor has another configuration
            return False
        try:
            self._dispatcher.reach(endpoint)
        except UnreachableError as error:
            with suppress(StoreError):  # without the note it is probed again all the same
                self._health.fail(endpoint, error.outcome)
            return False
        self._reached.add(name)
        return True

    def _attempt(self, lane: LaneContext, claim: Claim, asked_at: float, deadline: float) -> Completion | None:
        crash_point("worker.claimed")
        give_back, lease_ends = partial(self._store.ledger.give_back, claim), asked_at + claim.lease_seconds
        event_type = self._types.get(claim.type)
        if event_type is None or all(one.name != claim.endpoint for one in event_type.endpoints):
            lane.settle(claim, give_back, lease_ends)  # the conductor has another configuration
            return None
        attempt = Attempt(lane, claim, event_type, asked_at, deadline)
        if not claim.alone:
            return attempt.finish()
        try:
            if self._wait_alone(lane, claim, until=asked_at + claim.lease_seconds / 2):
                return attempt.finish()
            lane.settle(claim, give_back, lease_ends)
        except StoreError as error:
            message = "Event %s could not be begun, because Redis failed; it is given back: %s"
            lane.log(logging.INFO, "give_back", claim, message, error)
            lane.settle(claim, give_back, lease_ends)
        finally:
            if self._alone == lane.id.number:
                self._alone = None
        return None

    def _wait_alone(self, lane: LaneContext, claim: Claim, until: float) -> bool:
        """Wait until no other lane of this worker has anything in hand; return whether to carry the event.

        After `until`, the others' leases have ended, so there is no more reason to wait.
        """
        with self._lock:
            if self._alone is not None:
                return False  # another worker may be free sooner
            self._alone = lane.id.number
        while self._busy != {lane.id.number} and system_clock.monotonic() < until:
            if self.leaving:
                return False
            system_clock.sleep(_LOOK_SECONDS)
        return self._store.ledger.begin_alone(claim)

    def _complete(self, lane: LaneContext, completed: Completion) -> None:
        claim = completed.claim
        until = system_clock.monotonic() + claim.lease_seconds
        lane.settle(claim, partial(self._store.turns.complete, completed), until)

    def _give_back_unknown(self, lane: LaneContext, run_id: str) -> None:
        """Give back what the lane may have claimed in a turn whose answer was lost; otherwise its lease must end."""
        until = system_clock.monotonic() + self._longest_lease
        while system_clock.monotonic() < until:
            with suppress(StoreError):
                holdings = self._store.ledger.held_by(lane.id)
                lane.unsettled.intersection_update(holding.event_id for holding in holdings)
                for holding in holdings:
                    if holding.event_id in lane.unsettled:
                        continue  # its call was made, so the slot is used
                    if holding.call and (endpoint := self._settings.endpoints.get(holding.call.endpoint)):
                        slot, of = Admitted(holding.call.stamp), Call(lane.id, holding.event_id, holding.call.endpoint)
                        self._store.windows.give_back(endpoint, slot, of)
                    self._store.ledger.unclaim(lane.id, run_id, holding)
                return
            system_clock.sleep(AGAIN_SECONDS)

    def _make_lane(self) -> LaneContext:
        lane_id = LaneId(self._worker_id, next(self._numbers))
        made_of = self._store, self._settings, self._dispatcher, self._health
        return LaneContext(lane_id, *made_of, leaving=lambda: self.leaving)
