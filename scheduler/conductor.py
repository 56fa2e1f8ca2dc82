"""Conducts one run from its drain to its record: drain, plan, scale, wait for the end.

Lanes pull their calls by themselves (`rlm/delivery/lane.py`). While they do, the conductor looks once a second: it
forecasts the end, wants more workers where they help, notes what events wait for, and answers requests. Without it the
calls go on, a lane has the run closed, and a standby goes on with the looks.
"""

from __future__ import annotations

import logging

import msgspec

from rlm import telemetry
from rlm.admin.planning import (
    START_SECONDS,
    capacity_of,
    live_windows,
    plan_run,
    room_of,
    start_seconds,
    types_in_force,
)
from rlm.core.clock import system_clock
from rlm.core.documents import Record, RunPlan
from rlm.core.errors import FencedError, StoreError
from rlm.core.expected import TURNAROUND_SECONDS
from rlm.core.failpoints import crash_point
from rlm.core.run import Run, State, Waited
from rlm.core.text import done_after
from rlm.delivery.run_end import close_run
from rlm.ledger.drain import FIRST_ITEMS, FIRST_SECONDS, Drain
from rlm.ledger.trouble import Outage
from rlm.plan import Plan
from rlm.plan.causes import SLOW_SECONDS, Look, add_look, to_the_end
from rlm.plan.situation import Workload
from scheduler.looks import LONG_AGO, Desk, Looking, account, look_at

#: Seconds that the actor `record` has to close a run that a lane has ended, and between two looks whether it has.
ACTOR_SECONDS = 0.3
BUSY_SECONDS = 0.02
#: Seconds between two looks whether a drain is to go on: a chunk takes milliseconds.
DRAINING_SECONDS = 0.25
#: Pause after Redis failed, seconds.
AWAY_SECONDS = 0.2

log = logging.getLogger(__name__)


class Conductor:
    """Conducts one run. Every write carries the lease's token, so a deposed conductor changes nothing.

    Every method raises FencedError if another conductor took over, StoreError if Redis did not answer (then conduct the
    run again later), and HandedOverError if this process is stopping and a standby lives.
    """

    def __init__(self, desk: Desk, run: Run) -> None:
        """Conduct `run`, in whatever state another conductor may have left it."""
        self._desk = desk
        self._store, self._leader, self._duty, self._redis = desk
        self._run = run
        self._drain = Drain(self._store, self._leader.token, run)
        self._plan: Plan | None = None
        self._cold_since: float | None = None
        self._looks_at = 0.0
        self.has_closed = False  #: whether the run was closed here, and not by a lane
        self.record: Record | None = None  #: of the run, once it is closed

    def conduct(self) -> Record | None:
        """Conduct the run to its record; return the record, or None if it is no longer kept."""
        self.drain()
        self.plan()
        self.scale()
        return self.await_end()

    @property
    def _begins(self) -> bool:
        """Whether the run has no plan yet."""
        return self._run.state in {State.DRAINING, State.PLANNING} and not self._run.failure

    def drain(self) -> None:
        """Take what waits on the audit list, or the first piece of it: the rest is taken between looks."""
        if not self._begins:
            return
        for name in self._store.known_types:
            if name not in self._store.settings.types:
                self._fail_unknown(name)
        self._drain.work(FIRST_SECONDS, self._goes_on, FIRST_ITEMS)
        crash_point("drain.done")
        self._advance(State.PLANNING)

    def _fail_unknown(self, name: str) -> None:
        failed = self._store.recovery.fail_unknown(self._leader.token, self._run.id, name, self._goes_on)
        if failed:
            told = "%d events of %s, which is no longer configured, became dead letters"
            extra = {"action": "fail_unknown", "run_id": self._run.id}
            log.warning(told, failed, name, extra=extra)

    def _goes_on(self) -> bool:
        """Keep the lease and answer requests between chunks of a drain; return whether to continue the drain."""
        now = system_clock.monotonic()
        if now < self._looks_at and not self._duty.stopping:
            return True
        self._looks_at = now + DRAINING_SECONDS
        self._leader.keep()
        self._duty.serve(self._run)
        self._duty.hand_over(self._run)
        current, now_us = self._store.runs.current_at()
        if current is None or current.cancelled or self._duty.stopping:
            return False
        return current.left_seconds(now_us) > 0

    def plan(self) -> None:
        """Publish the limits and what lanes must know; plan what is taken and still to take; let lanes begin."""
        if not self._begins:
            return
        store, run, token = self._store, self._run, self._leader.token
        store.publish_limits(token)
        types = types_in_force(store)
        expected = store.measures.learned(types)
        store.rules.publish(token, types, expected)
        crash_point("plan.limits_published")
        begins_in, counts = start_seconds(store), store.ledger.count([kind.name for kind in types])
        asked_at = system_clock.monotonic()
        current, now_us = store.runs.current_at()
        answer_seconds = system_clock.monotonic() - asked_at
        turnaround = answer_seconds if answer_seconds > SLOW_SECONDS else TURNAROUND_SECONDS
        left_seconds = (current or run).left_seconds(now_us)
        untaken, endpoints = self._drain.untaken(left_seconds), [end for kind in types for end in kind.endpoints]
        windows = live_windows(store, endpoints)
        workload = Workload(
            {name: count.open + untaken.get(name, 0) for name, count in counts.items()},
            types,
            {name: window.later(begins_in) for name, window in windows.items()},
            expected,
        )
        self._plan = plan = plan_run(
            store.settings,
            workload,
            capacity_of(store.settings, 0, turnaround, room=room_of(store)),
            gone_seconds=run.window_seconds - left_seconds + begins_in,
            window_seconds=run.window_seconds,
        )
        # A lane may close the run before the first look, so what its events waited for is noted here.
        look = Look(counts, windows, 0, left_seconds, expected, self._duty.lately_away, answer_seconds)
        waits = add_look(run.waits or Waited(run.started_at), run.moment(now_us), look, types)
        fields: dict[str, str | int] = {
            "plan": msgspec.json.encode(_plan_record(plan)).decode(),
            "restarts_before": store.processes.restarts(),
            "waits": msgspec.json.encode(to_the_end(waits, look, types)).decode(),
        }
        fields |= {"most": 1} if plan.most else {}
        fields |= {} if self._drain.over else {"draining": 1}
        if sharing := [(kind.name, kind.share) for kind in types if kind.share]:
            fields["shares"] = msgspec.json.encode(sharing).decode()
        if begins_in != START_SECONDS and plan.first_call_seconds < START_SECONDS:
            self._cold_since = run.moment(now_us)
        self._advance(State.RUNNING, **fields)
        crash_point("plan.written")
        told = "Run %s is planned: workers %d, %s, left over %d: %s"
        extra = {"action": "plan", "run_id": run.id}
        done = done_after(plan.forecast_seconds)
        log.info(told, run.id, plan.workers, done, plan.expected_leftover, plan.binds, extra=extra)

    def scale(self) -> None:
        """Want as many workers as planned, on all hosts together."""
        if self._plan is not None:
            self._store.runs.want(self._leader.token, self._plan.workers)
            crash_point("plan.workers_wanted")

    def await_end(self) -> Record | None:
        """Look at the run until nothing more can be done in it, or it is to end; end it, and return its record."""
        outage = Outage(log, "conduct")
        seen = Looking.begin(self._desk, self._run, self._drain, self._cold_since)
        while True:
            try:
                with self._store.guarded():  # whatever stands in Redis is no reason to end
                    if (pause := look_at(self._desk, seen)) is None:
                        return self._finish(seen)
            except FencedError:
                raise
            except StoreError as error:
                self._duty.note_outage()
                outage.tell(error, "calls wait meanwhile", run_id=self._run.id)
                seen.due_at = LONG_AGO
                if self._duty.stopping:
                    raise
                pause = AWAY_SECONDS
            else:
                if lasted := outage.over():
                    seen.away_seconds, seen.due_at = seen.away_seconds + lasted, LONG_AGO
            self._duty.wait(pause)

    def _finish(self, seen: Looking) -> Record | None:
        """End and close the run, unless a lane has, or had it ended: then its actor closes it, if it lives."""
        store, run_id = self._store, self._run.id
        if seen.state not in {State.FINISHING, None}:
            crash_point("finish.due")
            store.runs.end(run_id, self._leader.token, **account(self._desk, seen))
            crash_point("finish.marked")
        elif seen.state is State.FINISHING:
            until = system_clock.monotonic() + ACTOR_SECONDS
            while system_clock.monotonic() < until and store.runs.is_open(run_id):
                self._duty.wait(BUSY_SECONDS)
        self.record = close_run(store, run_id, keep=self._leader.keep)
        self.has_closed = self.record is not None
        if self.has_closed:  # otherwise the process that closed it reports it
            telemetry.run_ended(store.settings, self._run, self.record)
        self.record = self.record or store.runs.record(run_id)
        return self.record

    def _advance(self, state: State, **fields: str | float) -> None:
        self._leader.keep()
        self._store.runs.advance(self._leader.token, self._run.id, state, **fields)


def _plan_record(plan: Plan) -> RunPlan:
    return RunPlan(
        workers=plan.workers,
        threads=plan.threads,
        forecast_seconds=round(plan.forecast_seconds, 3),
        lower_bound_seconds=round(plan.lower_bound_seconds, 3),
        expected_leftover=plan.expected_leftover,
        binds=plan.binds,
        course=plan.rounded_course(),
    )
