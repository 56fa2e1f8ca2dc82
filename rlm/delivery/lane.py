"""The lanes of a worker process: each settles its last call and asks for the next one, in one turn.

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
from rlm.delivery.attempt import Attempts
from rlm.delivery.http import Dispatcher
from rlm.delivery.outcome import is_given_back, unsent
from rlm.ledger.processes import host_of
from rlm.ledger.store import Store
from rlm.ledger.turns import Ask, Claim, Settlement, TurnReply
from rlm.ledger.values import MICROSECONDS
from rlm.settings import Settings

log = logging.getLogger(__name__)

#: No sleep is longer, seconds, in a run and without one: a wake-up may be lost.
LONGEST_SLEEP_SECONDS, IDLE_SECONDS = 5.0, 15.0
#: A lane asks this much after the moment that a turn named, so that it does not ask in vain, seconds.
AFTER_SECONDS = 0.0005
#: Pause after Redis failed, seconds, and up to which the pause grows while its clock cannot be measured well enough.
AGAIN_SECONDS, MEASURE_SECONDS = 0.1, 1.0
#: An answer that took so long says that Redis was away until then, seconds.
AWAY_SECONDS = 1.0
#: How long a lane waits before it says again that a run is to be closed, seconds.
CLOSE_SECONDS = 0.3
#: After so many calls in a row that could not connect while other hosts could, a worker sleeps for so long, seconds.
UNCONNECTED, SLEEP_SECONDS = 3, 5.0
#: The pause of a worker whose call was given back. Mostly it would have left too late, because its host or Redis is too
#: busy: asking on at once would keep them busy with calls of which none is made.
GIVEN_BACK_SECONDS = 0.01


class Gate:
    """What the lane that asks waits on: a moment, a wake-up, a nearer moment that another lane learned, the stop."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._until = 0.0
        #: The time of Redis in the answer that named that moment; and when the last wake-up came, monotonic seconds.
        self._heard_us = 0
        self._woken_at = 0.0
        #: Nobody asks before that, whatever was learned, monotonic seconds.
        self._sleeps_until = 0.0
        #: No lane gets a call any more.
        self.stopped = False

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
            if asked_at < self._woken_at or redis_us <= self._heard_us:
                return
            is_nearer, self._until, self._heard_us = until < self._until, until, redis_us
            if is_nearer:
                self._changed.notify_all()

    def sleep(self, seconds: float) -> None:
        """Let nobody ask for so long."""
        with self._changed:
            self._sleeps_until = max(self._sleeps_until, system_clock.monotonic() + seconds)

    @property
    def sleeps(self) -> bool:
        """Whether nobody is to ask now."""
        return system_clock.monotonic() < self._sleeps_until

    def wake(self) -> None:
        """Let the lane that waits ask now, or after the sleep."""
        with self._changed:
            self._woken_at, self._until, self._heard_us = system_clock.monotonic(), 0.0, 0
            self._changed.notify_all()

    def stop(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self.stopped = True
            self._changed.notify_all()


class Lanes:
    """The lanes of one worker process, and what they share; `carry` is called by one thread per lane."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        dispatcher: Dispatcher,
        worker_id: str,
        on_change: Callable[[], object] = lambda: None,
    ) -> None:
        """Carry events for the worker `worker_id`; call `on_change` when it falls asleep."""
        self.store = store
        self.settings = settings
        self.dispatcher = dispatcher
        self.worker_id = worker_id
        self.gate = Gate()
        self.asking = threading.Lock()
        #: Closes a run, of which Redis was away at the deadline or not; set by the worker.
        self.record: Callable[[str, bool], object] = lambda _run_id, _away: None
        #: Until when Redis was away last, monotonic seconds; and whether it is, as far as was said.
        self.failed_at = float("-inf")
        self._away = False
        #: Why it takes no calls although it lives, in a few words.
        self.sleeping = ""
        #: How many events each lane has completed; one thread writes each.
        self.completed: Counter[int] = Counter()
        self._on_change = on_change
        self._numbers = itertools.count(1)
        self._unconnected = 0
        self._closes_at = 0.0

    def wake(self) -> None:
        """Ask now: something may have come free."""
        self.gate.wake()

    def stop(self) -> None:
        """Let every lane end once its call is settled."""
        self.gate.stop()

    def carry(self) -> None:
        """Carry events in one lane until `stop`."""
        crash_point("worker.fetched")
        with self.store.client.keeping_connection():
            Lane(self, next(self._numbers)).run()

    def close(self, run_id: str, deadline: float) -> None:
        """Have a run closed in which nothing more can be done; `deadline` is its own, monotonic seconds."""
        now = system_clock.monotonic()
        if now >= self._closes_at:  # closing twice would change nothing, so no lock keeps two lanes from it
            self._closes_at = now + CLOSE_SECONDS
            self.record(run_id, self.failed_at >= deadline)

    def note_failure(self, error: StoreError) -> None:
        """Note that Redis failed; say so once until it answers again."""
        level, self._away = logging.DEBUG if self._away else logging.INFO, True
        self.failed_at = system_clock.monotonic()
        extra = {"action": "turn", "worker": self.worker_id}
        log.log(level, "No lane of worker %s gets a call, because Redis failed: %s", self.worker_id, error, extra=extra)

    def note_answer(self, asked_at: float, heard_at: float) -> None:
        """Note that Redis answered between two moments of `system_clock.monotonic`."""
        self._away = False
        if heard_at - asked_at > AWAY_SECONDS:
            self.failed_at = heard_at

    def note_connected(self, settlement: Settlement, reply: TurnReply) -> None:
        """Sleep after several calls in a row that could not connect from here while other hosts could."""
        if settlement.sent and not settlement.unconnected:
            self._unconnected, self.sleeping = 0, ""
        if not reply.elsewhere:
            return
        self._unconnected += 1
        if self._unconnected < UNCONNECTED:
            return
        self.gate.sleep(SLEEP_SECONDS)
        if not self.sleeping:
            message = "Worker %s can connect to no endpoint that other hosts reach (%s); it sleeps, and tries again"
            extra = {"action": "sleep", "endpoint": settlement.endpoint}
            log.warning(message, self.worker_id, settlement.why, extra=extra)
        self.sleeping = f"it can connect to no endpoint: {settlement.why}"
        self._on_change()


class Lane:
    """One lane. Its asks are numbered, so that one whose answer was lost can be repeated."""

    def __init__(self, lanes: Lanes, number: int) -> None:
        self._lanes = lanes
        self._gate = lanes.gate
        self._clock = lanes.store.clock
        self._turns = lanes.store.turns
        self._attempts = Attempts(lanes.settings, lanes.dispatcher, self._turns, self._clock, number)
        self._number = number
        self._asks = 0
        self._host = host_of(lanes.worker_id)

    def run(self) -> None:
        """Make calls until the lane is told to stop; settle the last one in a turn that asks for nothing."""
        settlement: Settlement | None = None
        while True:
            claim, asked_at = self._next_call(settlement)
            if claim is None:
                return
            if self._gate.stopped:  # it came after the flag
                settlement = unsent(claim)
                continue
            settlement = self._attempts.make(claim, asked_at)
            if is_given_back(settlement):
                self._gate.sleep(GIVEN_BACK_SECONDS)

    def _next_call(self, settlement: Settlement | None) -> tuple[Claim | None, float]:
        """Settle, and return the next call and when it was asked for; None if the lane is to end."""
        gate, asked_at = self._gate, 0.0
        claim: Claim | None = None
        if settlement is not None or not self._lanes.asking.locked():
            claim, asked_at = self._turn(settlement, nothing=gate.stopped or gate.sleeps)
        if claim is None:
            with self._lanes.asking:
                while claim is None and gate.wait():
                    claim, asked_at = self._turn(None)
        return claim, asked_at

    def _turn(self, settlement: Settlement | None, *, nothing: bool = False) -> tuple[Claim | None, float]:
        """Settle and ask; return the call, if the lane got one, and when it was asked for."""
        pause = 0.002
        self._asks += 1
        while True:
            asked_at = system_clock.monotonic()
            reply = self._ask(settlement, nothing=nothing)
            if reply is None:  # whatever became of it, the same number repeats its answer
                if self._gate.stopped and settlement is None:
                    return None, asked_at
                system_clock.sleep(AGAIN_SECONDS)
                continue
            if settlement is not None:
                self._settled(settlement, reply)
            if not (reply.epoch or reply.clock) or self._gate.stopped:
                break
            settlement, self._asks = None, self._asks + 1
            if reply.clock:  # Redis was slow, or its clock stepped: the next ask says which
                system_clock.sleep(pause)
                pause = min(MEASURE_SECONDS, 2 * pause)
        claim = reply.call
        if claim is None:
            self._learn(reply, asked_at)
        return claim, asked_at

    def _ask(self, settlement: Settlement | None, *, nothing: bool) -> TurnReply | None:
        """Ask once; return the answer, None if Redis failed."""
        epoch, stepped_us = self._clock.doubts
        ask = Ask(
            worker=self._lanes.worker_id,
            lane=self._number,
            n=self._asks,
            host=self._host,
            revision=self._lanes.settings.revision,
            epoch=epoch,
            expects=self._clock.expects_us(),
            stepped=stepped_us,
            nothing=nothing,
            settle=settlement,
        )
        asked_at = system_clock.monotonic()
        try:
            reply = self._turns.take(ask)
        except StoreError as error:
            self._lanes.note_failure(error)
            return None
        heard_at = system_clock.monotonic()
        self._lanes.note_answer(asked_at, heard_at)
        self._clock.hear(asked_at, reply.now, heard_at, reply.epoch)
        if reply.epoch:
            self._gate.wake()  # moments from before a doubt say nothing
        return reply

    def _learn(self, reply: TurnReply, asked_at: float) -> None:
        """Let the lane that asks wait as an answer without a call says."""
        lanes, now, until = self._lanes, system_clock.monotonic(), None
        if reply.nothing:
            self._gate.wake()  # there may be a call
        elif reply.close:
            lanes.close(reply.close, self._clock.reached_at(reply.deadline_us))
            until = now + CLOSE_SECONDS
        elif reply.wait is not None:
            at = self._clock.reached_at(reply.now + reply.wait) + AFTER_SECONDS
            until = min(at, now + LONGEST_SLEEP_SECONDS)
        elif reply.over or reply.outdated:  # whoever shows workers names those of another configuration
            until = now + IDLE_SECONDS
        if until is not None:
            self._gate.learn(asked_at, reply.now, until)

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
            self._log("rest_endpoint", settlement, message, name, FAILING, settlement.why, reply.opened / MICROSECONDS)
        self._lanes.note_connected(settlement, reply)

    def _log(self, action: str, settlement: Settlement, message: str, *args: object) -> None:
        extra = {"action": action, "event_id": settlement.event_id, "endpoint": settlement.endpoint}
        log.info(message, *args, extra=extra | {"worker": self._lanes.worker_id, "lane": self._number})
