"""Conducts one run from its drain to its record: drain, plan, scale, release just in time, finish."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from actors import messages
from actors.broker import WakingBroker
from rlm import telemetry
from rlm.admin.planning import capacity_of, live_windows, plan_run, room_of, start_seconds, types_in_force
from rlm.core.clock import system_clock
from rlm.core.endpoint import all_limited
from rlm.core.errors import StoreError
from rlm.core.failpoints import crash_point
from rlm.core.run import Run, State
from rlm.core.text import done_after, span
from rlm.delivery.run_end import REDIS_AWAY, close_run
from rlm.ledger import Store
from rlm.ledger.intake import FIRST_SECONDS, PIECE_SECONDS, Drain
from rlm.ledger.measures import learned
from rlm.ledger.processes import Role, WorkerState
from rlm.plan import Plan
from rlm.plan.situation import MANY_ENDPOINTS, Workload
from scheduler.leader import Duty, Leader
from scheduler.redis_watch import LOOK_SECONDS, RedisWatch
from scheduler.release_loop import BUSY_SECONDS, ReleaseLoop

#: Calls are cut at the deadline; what their workers write within this many seconds still counts.
OVERTIME_SECONDS = 0.25
#: How long the end-of-run actor has to close a run before the conductor does it, seconds; which does it at once if less
#: is left to the deadline.
ACTOR_SECONDS = 1.0
#: How often others are served while calls are awaited, and while a run drains, seconds: a chunk takes some
#: milliseconds, and asking between any two of them would take nearly as long.
SERVE_SECONDS = 0.5
DRAINING_SECONDS = 0.05

log = logging.getLogger(__name__)


class HandedOverError(Exception):
    """Raised out of a run that a standby goes on with, because this process is stopping."""


class Conductor:
    """Conducts one run at a time. Every write carries the lease's token, so that a deposed one changes nothing.

    The methods raise FencedError if another conductor took over, and StoreError if Redis did not answer.
    """

    def __init__(self, store: Store, broker: WakingBroker, leader: Leader, duty: Duty, redis: RedisWatch) -> None:
        """Conduct with the lease of `leader` on a Redis that `redis` vouches for."""
        self._store = store
        self._broker = broker
        self._leader = leader
        self._duty = duty
        self._types: Sequence[str] = ()  #: those with events as the run that is conducted was taken up
        self._redis = redis
        self._looks_at = 0.0

    def conduct(self, run: Run) -> dict[str, Any] | None:
        """Take a run from whatever state it is in to its record; return that, or None if it is no longer kept.

        After a StoreError conduct the run again later; the release loop itself waits for Redis.

        Raises:
            HandedOverError: this process is stopping, and a standby goes on.
        """
        state = run.state
        self._types = self._store.known_types
        if state is State.FINISHING:
            return self.finish(run)
        drain = Drain(self._store, self._leader.token, run)
        if state in {State.DRAINING, State.PLANNING}:  # a plan rests on what its own conductor has taken
            self._begin_drain(run, drain)
            crash_point("drain.done")
            self._advance(run, State.PLANNING)
            self._plan(run, drain.untaken(self._left_seconds(run)))
        elif not drain.over:  # what a piece holds says what the rest holds, which the first forecast counts
            drain.work(PIECE_SECONDS, lambda: self._goes_on(run))
        self._release(run, drain)
        return self.finish(run)

    def _begin_drain(self, run: Run, drain: Drain) -> None:
        """Drain for a moment, which takes all unless the audit list is very long; the rest is taken while calls go.

        With very many endpoints all is taken first: there the first plan stands, so it may not rest on an estimate.
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
        """Keep the lease and answer requests between chunks of a drain; return whether to go on with it."""
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
        """Plan what is pending and `untaken` as yet; publish the limits, the plan, the wanted number of workers."""
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
        """Release until the run is to end, and mark it finishing: from then on nothing is claimed."""
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
        """Leave the run as it is if this process is stopping and a standby lives, which drains and sends the rest."""
        if self._duty.stopping and not self._duty.cancels and self._duty.standby():
            raise HandedOverError(run.id)

    def finish(self, run: Run) -> dict[str, Any] | None:
        """Wait for the calls under way, then have the end-of-run actor close the run; if there is no time, close it."""
        left = self._await_calls(run)
        crash_point("finish.awaited")
        has_time = left > ACTOR_SECONDS and not self._duty.hurried
        self._redis.mender.step(0.0 if has_time else LOOK_SECONDS)
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
        if record is None or not record.get("overdue"):  # else whoever closed it has told of it
            telemetry.run_ended(self._store.settings, run, record)
        return record

    def _await_calls(self, run: Run) -> float:
        """Wait until no call is under way, or all are cut; return the time to the deadline, negative after it."""
        types, serve_at = self._types or self._store.known_types, system_clock.monotonic()
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
        """Return the time to the deadline, negative after it. The run is read anew: its clock may have been set."""
        current, now_us = self._store.runs.current_at()
        known = current if current is not None and current.id == run.id else run
        return known.left_seconds(now_us)

    def _unsettled(self) -> int:
        return sum(count.unsettled for count in self._store.ledger.count(self._store.known_types).values())

    def _advance(self, run: Run, state: State, **fields: str | float) -> None:
        self._leader.keep()
        self._store.runs.advance(self._leader.token, run.id, state, **fields)


def _plan_record(plan: Plan) -> dict[str, Any]:
    return {
        "workers": plan.workers,
        "threads": plan.threads,
        "forecast_seconds": round(plan.forecast_seconds, 3),
        "lower_bound_seconds": round(plan.lower_bound_seconds, 3),
        "expected_leftover": plan.expected_leftover,
        "binds": plan.binds,
        "course": plan.course_as_json(),
    }
