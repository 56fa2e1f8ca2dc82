"""Conducts one run from its drain to its record: drain, plan, scale, release just in time, finish."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

import msgspec

from actors import messages
from actors.broker import WakingBroker
from rlm import telemetry
from rlm.admin.planning import capacity_of, live_windows, plan_run, room_of, start_seconds, types_in_force
from rlm.core.clock import system_clock
from rlm.core.documents import Record, RunPlan
from rlm.core.endpoint import all_limited
from rlm.core.errors import StoreError
from rlm.core.failpoints import crash_point
from rlm.core.run import Run, State
from rlm.core.text import done_after, span
from rlm.delivery.run_end import REDIS_AWAY, close_run
from rlm.ledger import Store
from rlm.ledger.control import limits_by_hand
from rlm.ledger.drain import FIRST_SECONDS, PIECE_SECONDS, Drain
from rlm.ledger.measures import learned
from rlm.ledger.processes import Role, WorkerState
from rlm.plan import Plan
from rlm.plan.situation import MANY_ENDPOINTS, Workload
from scheduler.leader import Duty, Leader
from scheduler.redis_watch import RedisWatch
from scheduler.release_loop import BUSY_SECONDS, ReleaseLoop

#: Calls are cut at the deadline; results that their workers write within so many seconds still count.
OVERTIME_SECONDS = 0.25
#: Seconds that the end-of-run actor has to close a run before the conductor closes it. With less time to the deadline
#: the conductor closes it at once.
ACTOR_SECONDS = 1.0
#: Seconds between two answers to requests while calls are awaited, and while a run drains. A chunk takes milliseconds,
#: and asking after each would take nearly as long.
SERVE_SECONDS = 0.5
DRAINING_SECONDS = 0.05

log = logging.getLogger(__name__)


class HandedOverError(Exception):
    """Raised out of a run that a standby continues, because this process is stopping."""


class Conductor:
    """Conducts one run at a time. Every write carries the lease's token, so a deposed conductor changes nothing.

    The methods raise FencedError if another conductor took over, and StoreError if Redis did not answer.
    """

    def __init__(self, store: Store, broker: WakingBroker, leader: Leader, duty: Duty, redis: RedisWatch) -> None:
        """Conduct with the lease of `leader`; `redis` checks that Redis can be trusted."""
        self._store = store
        self._broker = broker
        self._leader = leader
        self._duty = duty
        self._redis = redis
        self._looks_at = 0.0

    def conduct(self, run: Run) -> Record | None:
        """Conduct a run from its current state to its record; return the record, or None if it is no longer kept.

        After a StoreError conduct the run again later; the release loop itself waits for Redis.

        Raises:
            HandedOverError: this process is stopping, and a standby continues the run.
        """
        state = run.state
        if run.failure and state is not State.FINISHING:  # what Redis holds of it is damaged
            self._advance(run, State.FINISHING, failure=run.failure)
            state = State.FINISHING
        if state is State.FINISHING:
            return self.finish(run)
        drain = Drain(self._store, self._leader.token, run)
        if state in {State.DRAINING, State.PLANNING}:  # a plan needs its conductor's own drain
            self._begin_drain(run, drain)
            crash_point("drain.done")
            self._advance(run, State.PLANNING)
            self._plan(run, drain.untaken(self._left_seconds(run)))
        elif not drain.over:  # the first forecast estimates the rest by this piece
            drain.work(PIECE_SECONDS, lambda: self._goes_on(run))
        self._release(run, drain)
        return self.finish(run)

    def _begin_drain(self, run: Run, drain: Drain) -> None:
        """Drain for a moment, which is enough unless the audit list is very long; the release loop takes the rest.

        With very many endpoints take everything first: there the first plan is final, and may not rest on an estimate.
        """
        for name in self._store.known_types:
            if name not in self._store.settings.types:
                self._fail_unknown(run, name)
        is_planned_once = len(all_limited(self._store.settings.endpoints.values())) > MANY_ENDPOINTS
        drain.work(math.inf if is_planned_once else FIRST_SECONDS, lambda: self._goes_on(run))

    def _fail_unknown(self, run: Run, name: str) -> None:
        failed = self._store.recovery.fail_unknown(self._leader.token, run.id, name, lambda: self._goes_on(run))
        if failed:
            told = "%d events of %s, which is no longer configured, became dead letters"
            extra = {"action": "fail_unknown", "run_id": run.id}
            log.warning(told, failed, name, extra=extra)

    def _goes_on(self, run: Run) -> bool:
        """Keep the lease and answer requests between chunks of a drain; return whether to continue the drain."""
        now = system_clock.monotonic()
        if now < self._looks_at and not self._duty.stopping:
            return True
        self._looks_at = now + DRAINING_SECONDS
        self._leader.keep()
        self._duty.serve(run)
        self._hand_over(run)
        current = self._store.runs.current()
        if current is None or current.cancelled or self._duty.stopping:
            return False
        return current.left_seconds(self._store.now_us()) > 0

    def _plan(self, run: Run, untaken: Mapping[str, int]) -> None:
        """Plan pending and still `untaken` events; publish the limits, the plan and the wanted number of workers."""
        store = self._store
        store.publish_limits(self._leader.token)
        types = types_in_force(store)
        expected = learned(store, types)
        store.measures.publish(self._leader.token, expected)
        crash_point("plan.limits_published")
        begins_in, counts = start_seconds(store), store.ledger.count([one.name for one in types])
        workload = Workload(
            {name: count.open + untaken.get(name, 0) for name, count in counts.items()},
            types,
            live_windows(store, [end for one in types for end in one.endpoints], ahead_seconds=begins_in),
            expected,
            by_hand=limits_by_hand(store, all_limited(end for one in types for end in one.endpoints)),
        )
        plan = plan_run(
            store.settings,
            workload,
            capacity_of(store.settings, room=room_of(store)),
            gone_seconds=run.window_seconds - self._left_seconds(run) + begins_in,
            window_seconds=run.window_seconds,
        )
        self._advance(
            run,
            State.RUNNING,
            plan=msgspec.json.encode(_plan_record(plan)).decode(),
            restarts_before=store.processes.restarts(),
        )
        crash_point("plan.written")
        store.processes.want(self._leader.token, plan.workers)
        crash_point("plan.workers_wanted")
        told = "Run %s is planned: workers %d, %s, left over %d: %s"
        extra = {"action": "plan", "run_id": run.id}
        done = done_after(plan.forecast_seconds)
        log.info(told, run.id, plan.workers, done, plan.expected_leftover, plan.binds, extra=extra)

    def _release(self, run: Run, drain: Drain) -> None:
        """Release calls until the run is to end, then mark it finishing: after that nothing is claimed."""
        loop = ReleaseLoop(self._store, self._broker, self._leader, self._redis, self._duty, drain)
        loop.run()
        if self._duty.stopping and self._duty.cancels:
            self._store.runs.cancel(run.id)
        self._hand_over(run)
        fields: dict[str, str] = {}
        if loop.lost_redis:
            fields["failure"] = REDIS_AWAY
        elif loop.lacked_workers and not loop.cancelled and not self._duty.stopping and self._unsettled():
            fields["failure"] = "no worker came up"
        elif self._duty.stopping and not self._duty.cancels and (left := self._left_seconds(run)) > 0:
            fields["stopped"] = f"the scheduler was told to stop {span(left)} before the deadline"
        crash_point("finish.due")
        self._advance(run, State.FINISHING, **fields, **loop.account())
        crash_point("finish.marked")

    def _hand_over(self, run: Run) -> None:
        """Leave the run open if this process is stopping and a standby lives, which drains and sends the rest."""
        if self._duty.stopping and not self._duty.cancels and self._duty.standby():
            raise HandedOverError(run.id)

    def finish(self, run: Run) -> Record | None:
        """Wait for calls in flight, then have the end-of-run actor close the run, or close it here if time is short."""
        left = self._await_calls(run)
        crash_point("finish.awaited")
        has_time = left > ACTOR_SECONDS and not self._duty.hurried
        if has_time and any(one.state == WorkerState.READY for one in self._store.processes.alive(Role.WORKER)):
            try:
                self._broker.enqueue_many([messages.message_for(messages.LEFTOVERS, run.id)])
                self._store.processes.wake("workers")
            except StoreError as error:
                extra = {"action": "finish", "run_id": run.id}
                log.info("The end-of-run actor cannot be told, so the run is closed without it: %s", error, extra=extra)
            crash_point("finish.actor_told")
            until = system_clock.monotonic() + ACTOR_SECONDS
            while system_clock.monotonic() < until and self._store.runs.record(run.id) is None:
                self._leader.keep()
                system_clock.sleep(BUSY_SECONDS)
        record = close_run(self._store, run.id, keep=self._leader.keep) or self._store.runs.record(run.id)
        if record is None or not record.overdue:  # otherwise the process that closed it has reported it
            telemetry.run_ended(self._store.settings, run, record)
        return record

    def _await_calls(self, run: Run) -> float:
        """Wait until no call is in flight or all are cut; return the seconds to the deadline, negative after it."""
        types, serve_at = self._store.known_types, system_clock.monotonic()
        deadline = serve_at + self._left_seconds(run)
        while (now := system_clock.monotonic()) < deadline + OVERTIME_SECONDS and not self._duty.hurried:
            self._leader.keep()
            if not sum(count.inflight for count in self._store.ledger.count(types).values()):
                break
            if now >= serve_at:
                serve_at = now + SERVE_SECONDS
                self._redis.check()
                self._duty.serve(run)
            system_clock.sleep(BUSY_SECONDS)
        return deadline - system_clock.monotonic()

    def _left_seconds(self, run: Run) -> float:
        """Return the seconds to the deadline, negative after it. Reads the run anew: a clock step may have moved it."""
        current, now_us = self._store.runs.current_at()
        known = current if current is not None and current.id == run.id else run
        return known.left_seconds(now_us)

    def _unsettled(self) -> int:
        return sum(count.unsettled for count in self._store.ledger.count(self._store.known_types).values())

    def _advance(self, run: Run, state: State, **fields: str | float) -> None:
        self._leader.keep()
        self._store.runs.advance(self._leader.token, run.id, state, **fields)


def _plan_record(plan: Plan) -> RunPlan:
    return RunPlan(
        workers=plan.workers,
        threads=plan.threads,
        forecast_seconds=round(plan.forecast_seconds, 3),
        lower_bound_seconds=round(plan.lower_bound_seconds, 3),
        expected_leftover=plan.expected_leftover,
        binds=plan.binds,
        course=plan.rounded_course(),
        kept=plan.kept,
    )
