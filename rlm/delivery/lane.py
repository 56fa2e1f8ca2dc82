"""The lanes of a worker process: each settles its last call and asks for the next one, in one turn, and makes it.

Of the idle lanes of a process one asks, and the others queue behind it. It sleeps until the moment that the last turn
named, or until it is woken: so nobody polls, and a slot that comes free is used within a millisecond.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import Counter
from collections.abc import Callable

from rlm.core.clock import system_clock
from rlm.core.endpoint import FAILING
from rlm.core.errors import StoreError
from rlm.core.failpoints import crash_point
from rlm.delivery.attempt import Caller, Kind, unsent
from rlm.delivery.http import Connections
from rlm.ledger.store import Store
from rlm.ledger.turns import Ask, Claim, Settlement, TurnReply
from rlm.ledger.values import MICROSECONDS

log = logging.getLogger(__name__)

#: No sleep is longer, seconds, in a run and without one: a wake-up may be lost.
LONGEST_SLEEP_SECONDS, IDLE_SECONDS = 5.0, 30.0
#: A lane asks this much after the moment that a turn named, so that it does not ask in vain, seconds.
AFTER_SECONDS = 0.0005
#: Pause after Redis failed, seconds, and up to which the pause grows while its clock cannot be measured well enough.
AGAIN_SECONDS, MEASURE_SECONDS = 0.1, 1.0
#: How long a lane waits before it says again that a run is to be closed, seconds.
CLOSE_SECONDS = 0.3
#: After so many calls in a row that cannot connect while other hosts can, a worker sleeps; it tries so often, seconds.
UNCONNECTED, SLEEP_SECONDS = 3, 5.0
#: The pause of a worker whose call was given back. Mostly it would have left too late, because its host or Redis is too
#: busy: asking on at once would keep them busy with calls of which none is made.
GIVEN_BACK_SECONDS = 0.01


class Gate:
    """What the lane that asks waits on: a moment, a wake-up, a nearer moment that another lane learned, the stop."""

    def __init__(self) -> None:
        #: Held by the lane that asks for all.
        self.asking = threading.Lock()
        #: No lane gets a call any more.
        self.stopped = False
        self._changed = threading.Condition()
        #: What it waits for, the time of Redis in the answer that named that, and when the last wake-up came.
        self._until, self._heard_us, self._woken_at = 0.0, 0, 0.0
        #: Nobody asks before that, whatever was learned, monotonic seconds.
        self._sleeps_until = 0.0

    def wait(self) -> bool:
        """Wait until it makes sense to ask; return whether to ask, which no lane may after the stop."""
        with self._changed:
            while not self.stopped:
                left = max(self._sleeps_until, self._until) - system_clock.monotonic()
                if left <= 0:
                    return True
                self._changed.wait(left)
        return False

    def learn(self, asked_at: float, redis_us: int, until: float) -> None:
        """Wait `until` (monotonic seconds) from now on, as Redis said at `redis_us` to an ask of `asked_at`.

        An answer that is older than the last one, or than a wake-up, says nothing.
        """
        with self._changed:
            if asked_at >= self._woken_at and redis_us > self._heard_us:
                is_nearer, self._until, self._heard_us = until < self._until, until, redis_us
                if is_nearer:
                    self._changed.notify_all()

    def sleep(self, seconds: float) -> None:
        """Let nobody ask for so long."""
        with self._changed:
            self._sleeps_until = max(self._sleeps_until, system_clock.monotonic() + seconds)

    @property
    def is_shut(self) -> bool:
        """Whether nobody is to ask now."""
        return self.stopped or system_clock.monotonic() < self._sleeps_until

    def wake(self) -> None:
        """Let the lane that waits ask now, or after the sleep."""
        with self._changed:
            self._until, self._heard_us, self._woken_at = 0.0, 0, system_clock.monotonic()
            self._changed.notify_all()

    def stop(self) -> None:
        """Let every lane end once its call is settled."""
        with self._changed:
            self.stopped = True
            self._changed.notify_all()


class Lanes:
    """The lanes of one worker process, and what they share; each message of `actors/dispatch.py` calls `carry`."""

    def __init__(self, store: Store, connections: Connections, worker_id: str, close: Callable[[str], object]) -> None:
        """Carry events for the worker `worker_id`; `close` sends `actors/record.py` a run that is over."""
        self.store = store
        self.caller = Caller(store, connections)
        self.worker_id = worker_id
        self.gate = Gate()
        #: Why it takes no calls although it lives, in a few words.
        self.sleeping = ""
        #: How many events each lane has completed; one thread writes each.
        self.completed: Counter[int] = Counter()
        self.close = close
        self._numbers = itertools.count(1)
        self._is_away = False
        self._unconnected = 0

    def carry(self) -> None:
        """Carry events in one lane until the gate is stopped."""
        crash_point("worker.fetched")
        with self.store.client.keeping_connection():
            Lane(self, next(self._numbers)).run()

    def note_answer(self, error: StoreError | None = None) -> None:
        """Note whether Redis answered; say once that it does not."""
        if error and not self._is_away:
            extra = {"action": "turn", "worker": self.worker_id}
            log.info("No lane of worker %s gets a call, because Redis failed: %s", self.worker_id, error, extra=extra)
        self._is_away = error is not None

    def note_connected(self, settlement: Settlement, reply: TurnReply) -> None:
        """Fall asleep after several calls in a row that could not connect from here while other hosts could."""
        if settlement.sent and settlement.kind not in {Kind.NO_ANSWER, Kind.DEADLINE}:  # kept connections end so too
            self._unconnected, self.sleeping = 0, ""
        self._unconnected += reply.elsewhere
        if reply.elsewhere and self._unconnected >= UNCONNECTED and not self.sleeping:
            message = "Worker %s can connect to no endpoint that other hosts reach (%s); it sleeps, and tries again"
            log.warning(message, self.worker_id, settlement.kind, extra={"action": "sleep"})
            self.sleeping = f"it can connect to no endpoint: {settlement.kind}"
            self.gate.sleep(SLEEP_SECONDS)

    def is_awake(self) -> bool:
        """Return whether to ask. A worker that sleeps first tries to connect: a call would take a slot to see that."""
        if self.sleeping:
            if not self.caller.reaches_any():
                self.gate.sleep(SLEEP_SECONDS)
                return False
            self._unconnected, self.sleeping = 0, ""
        return True


class Lane:
    """One lane. Its asks are numbered, so that one whose answer was lost can be repeated."""

    def __init__(self, lanes: Lanes, number: int) -> None:
        self._lanes = lanes
        self._gate = lanes.gate
        self._clock, self._turns = lanes.store.clock, lanes.store.turns
        self._number = number
        #: The number of the last ask, and when it was first made: the slot of its call is not older.
        self._asks, self.asked_at = 0, 0.0

    def run(self) -> None:
        """Make calls until the lane is told to stop; settle the last one in a turn that asks for nothing."""
        claim = self._queue()
        while claim is not None:
            # A call that comes after the flag is given back.
            settlement = unsent(claim) if self._gate.stopped else self._lanes.caller.make(claim, self.asked_at)
            if settlement.finish is None:
                self._gate.sleep(GIVEN_BACK_SECONDS)
            is_shut = self._gate.is_shut or bool(self._lanes.sleeping)
            claim = self._turn(settlement, nothing=is_shut) or self._queue()

    def _queue(self) -> Claim | None:
        """Return the next call, waiting as the lane that asks for all; None after the stop."""
        with self._gate.asking:
            while self._gate.wait():
                if self._lanes.is_awake() and (claim := self._turn(None)):
                    return claim
        return None

    def _turn(self, settlement: Settlement | None, *, nothing: bool = False) -> Claim | None:
        """Settle and ask; return the call, if the lane got one."""
        pause = 0.002
        self._asks, self.asked_at = self._asks + 1, system_clock.monotonic()
        while True:
            sent_at = system_clock.monotonic()
            try:
                reply = self._turns.take(self._ask(settlement, nothing=nothing))
            except StoreError as error:  # whatever became of it, the same number repeats its answer
                self._lanes.note_answer(error)
                if self._gate.stopped and settlement is None:
                    return None
                system_clock.sleep(AGAIN_SECONDS)
                continue
            self._lanes.note_answer()
            self._clock.hear(sent_at, reply.now, system_clock.monotonic(), reply.epoch)
            if reply.epoch:
                self._gate.wake()  # moments from before a doubt say nothing
            if settlement is not None:
                self._settled(settlement, reply)
            if not (reply.epoch or reply.clock) or self._gate.stopped:
                break
            if reply.clock:  # Redis was slow, or its clock stepped: the next ask says which
                system_clock.sleep(pause)
                pause = min(MEASURE_SECONDS, 2 * pause)
            settlement, self._asks, self.asked_at = None, self._asks + 1, system_clock.monotonic()
        if reply.call is None:
            self._learn(reply)
        return reply.call

    def _ask(self, settlement: Settlement | None, *, nothing: bool) -> Ask:
        epoch, stepped_us = self._clock.doubts
        return Ask(
            worker=self._lanes.worker_id,
            lane=self._number,
            n=self._asks,
            revision=self._lanes.store.settings.revision,
            epoch=epoch,
            expects=self._clock.expects_us(),
            stepped=stepped_us,
            nothing=nothing,
            settle=settlement,
        )

    def _learn(self, reply: TurnReply) -> None:
        """Let the lane that asks wait as an answer without a call says."""
        now, until = system_clock.monotonic(), None
        if reply.nothing:
            self._gate.wake()  # there may be a call
        elif reply.close:
            self._lanes.close(reply.close)
            until = now + CLOSE_SECONDS
        elif reply.wait is not None:
            at = self._clock.reached_at(reply.now + reply.wait) + AFTER_SECONDS
            until = min(at, now + LONGEST_SLEEP_SECONDS)
        elif reply.over or reply.outdated:  # whoever shows workers names those of another configuration
            until = now + IDLE_SECONDS
        if until is not None:
            self._gate.learn(self.asked_at, reply.now, until)

    def _settled(self, settlement: Settlement, reply: TurnReply) -> None:
        """Log what came of a settlement."""
        crash_point("worker.settled")
        name = settlement.endpoint
        self._lanes.completed[self._number] += reply.settled and settlement.to == "completed"
        if not reply.settled:
            message = "The answer for event %s came after its claim was lost; the ledger did not change"
            self._log("late_answer", settlement, message, settlement.event_id)
        if reply.reopened:
            self._log("reopen_endpoint", settlement, "%s answers again, and is called as its limit allows", name)
        if reply.rested:
            seconds = reply.rested / MICROSECONDS
            self._log("rest_endpoint", settlement, "%s refuses calls and rests %.1f s", name, seconds)
        if reply.opened:
            message = "%s failed %d times in a row, the last time with: %s; it rests, first %.1f s, and is probed"
            self._log("rest_endpoint", settlement, message, name, FAILING, settlement.kind, reply.opened / MICROSECONDS)
        self._lanes.note_connected(settlement, reply)

    def _log(self, action: str, settlement: Settlement, message: str, *args: object) -> None:
        extra = {"action": action, "event_id": settlement.event_id, "endpoint": settlement.endpoint}
        log.info(message, *args, extra=extra | {"worker": self._lanes.worker_id, "lane": self._number})
