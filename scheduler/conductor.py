"""The life of a run: it is opened, drained, planned, looked at once a second while lanes make its calls, and closed.

Lanes pull their calls by themselves (`rlm/delivery/lane.py`). While they do, the conductor forecasts the end, wants
more workers where they help, notes what events wait for, and answers requests. Without it the calls go on, a lane has
the run closed, and a standby goes on with the looks.
"""

from __future__ import annotations

import logging

import msgspec
from msgspec.structs import replace

from rlm.admin.planning import types_in_force
from rlm.core.clock import system_clock
from rlm.core.documents import RunPlan
from rlm.core.endpoint import EventType
from rlm.core.errors import FencedError, StoreError
from rlm.core.failpoints import crash_point
from rlm.core.run import Run, State, Trigger, Waited, make_run_id
from rlm.core.text import done_after
from rlm.delivery.run_end import REDIS_AWAY, close_run
from rlm.ledger.intake import Drain
from rlm.ledger.processes import Role
from rlm.ledger.store import Store
from rlm.ledger.waker import Outage
from rlm.plan import Plan
from rlm.plan.causes import Look, add_look, reason_of
from scheduler.forecast import Forecaster
from scheduler.office import Office

#: A run drains so many items before it is planned, which takes a moment, or for so many seconds, if Redis is far away.
FIRST_ITEMS, FIRST_SECONDS = 10_000, 2.0
#: Seconds between two looks.
LOOK_SECONDS = 1.0
#: A look that comes so many seconds late was kept back by Redis, and so was what lanes wait for.
GAP_SECONDS = 2.0
#: No look begins so shortly before the deadline, seconds, or within so many answers of Redis: it would close late.
LAST_SECONDS, LAST_ANSWERS = 0.2, 20
#: Seconds between two looks while only the last calls, or the actor `record`, are awaited; and how long the actor has.
BUSY_SECONDS = 0.02
ACTOR_SECONDS = 0.3
#: Calls are cut at the deadline; results that their workers write within so many seconds still count.
OVERTIME_SECONDS = 0.25
#: Pause after Redis failed, seconds.
AWAY_SECONDS = 0.2

log = logging.getLogger(__name__)


def open_run(store: Store, token: int, trigger: Trigger, tick: float, request: str = "") -> str:
    """Open a run that counts from `tick`, seconds since 1970 by Redis, and answers `request`; return its id."""
    window_seconds = store.settings.run.window_seconds
    run = Run(
        id=make_run_id(tick),
        state=State.DRAINING,
        trigger=trigger,
        started_at=tick,
        deadline=tick + window_seconds,
        deadline_us=round((tick + window_seconds) * 1_000_000),
        window_seconds=window_seconds,
        revision=store.settings.revision,
        tick=tick,
    )
    opened = store.runs.open(token, run, store.known_types, request)
    crash_point("run.opened")
    return opened


class Conductor:
    """Conducts one run. Every write carries the lease's token, so a deposed conductor changes nothing.

    Every method raises FencedError if another conductor took over, StoreError if Redis did not answer: then conduct the
    run again later.
    """

    def __init__(self, office: Office, run: Run) -> None:
        self._office = office
        self._store = office.store
        self._run = run
        self._drain = Drain(self._store, office.token, run)
        self._forecaster = Forecaster(office, run, self._drain)
        self._plan: Plan | None = None
        self._waits = run.waits or Waited(run.started_at)
        self._due_at = float("inf")  #: when the next look is due, monotonic seconds
        self._left_seconds = self._answer_seconds = 0.0  #: when the run was last read: to its deadline, and that took

    def conduct(self) -> None:
        """Conduct the run to its record, from whatever state another conductor may have left it in."""
        self.drain()
        self.plan()
        self.scale()
        self.await_end()

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
                failed = self._store.recovery.fail_unknown(self._office.token, self._run.id, name, self._goes_on)
                if failed:
                    told = "%d events of %s, which is no longer configured, became dead letters"
                    extra = {"action": "fail_unknown", "run_id": self._run.id}
                    log.warning(told, failed, name, extra=extra)
        self._drain.work(FIRST_SECONDS, self._goes_on, FIRST_ITEMS)
        crash_point("drain.done")
        self._advance(State.PLANNING)

    def _goes_on(self) -> bool:
        """Keep the lease between chunks of a drain; return whether to continue it."""
        self._office.keep()
        return not self._office.stop.graceful

    def plan(self) -> None:
        """Publish the limits and what lanes must know; plan what is taken and still to take; let lanes begin."""
        if not self._begins:
            return
        store, run, token, forecaster = self._store, self._run, self._office.token, self._forecaster
        store.publish_limits(token)
        types = types_in_force(store)
        store.rules.publish(token, types, forecaster.expected)
        crash_point("plan.limits_published")
        self._read()
        team = forecaster.team(store.processes.alive(Role.WORKER), store.settings.revision, 0)
        look = forecaster.look(types, team, self._left_seconds, self._answer_seconds)
        self._plan = plan = forecaster.plan(look, team, 0, run)
        self._note(replace(look, lanes=max(1, look.lanes)), types)  # a lane may close the run before the next look
        fields: dict[str, str | int] = {
            "plan": _json(msgspec.convert(plan, RunPlan, from_attributes=True)),
            "restarts_before": store.processes.restarts(),
            "waits": _json(self._waits),
        }
        fields |= {"most": 1} if plan.most else {}
        fields |= {} if self._drain.over else {"draining": 1}
        if sharing := [(kind.name, kind.share) for kind in types if kind.share]:
            fields["shares"] = _json(sharing)
        self._advance(State.RUNNING, **fields)
        crash_point("plan.written")
        told = "Run %s is planned: workers %d, %s, left over %d: %s"
        extra = {"action": "plan", "run_id": run.id}
        done = done_after(plan.forecast_seconds)
        log.info(told, run.id, plan.workers, done, plan.expected_leftover, plan.binds, extra=extra)

    def scale(self) -> None:
        """Want as many workers as planned, on all hosts together."""
        if self._plan is not None:
            self._store.runs.want(self._office.token, self._plan.workers)
            crash_point("plan.workers_wanted")

    def await_end(self) -> None:
        """Look at the run until nothing more can be done in it, or it is to end; then close it.

        A scheduler that is told to stop leaves it open: lanes go on, and close it if no other scheduler comes.
        """
        office, outage = self._office, Outage(log, "conduct")
        while office.cancels or not office.stop.graceful:
            try:
                with self._store.guarded():  # whatever stands in Redis is no reason to end
                    if (pause := self._look_once()) is None:
                        return self._close()
            except FencedError:
                raise
            except StoreError as error:
                outage.tell(error, "calls wait meanwhile", run_id=self._run.id)
                if office.stop.graceful:
                    raise
                pause, self._due_at = AWAY_SECONDS, float("-inf")
            else:
                outage.over()
                self._due_at = system_clock.monotonic() + pause
            office.stop.wakeup.wait(pause)
        return None

    def _read(self) -> bool:
        """Read the run; return whether it is still open."""
        asked_at = system_clock.monotonic()
        current, now_us = self._store.runs.current_at()
        self._answer_seconds = system_clock.monotonic() - asked_at
        if current is None or current.id != self._run.id:
            return False
        self._run, self._left_seconds = current, current.left_seconds(now_us)
        return True

    def _look_once(self) -> float | None:
        """Look once; return in how many seconds to look again, None if the run has been closed, or is to end now."""
        office, store, began = self._office, self._store, system_clock.monotonic()
        is_away = bool(office.unfit) or system_clock.monotonic() > self._due_at + GAP_SECONDS
        office.keep()
        if not self._read() or self._run.state is State.FINISHING:
            return None
        if office.cancels and office.stop.graceful and store.runs.cancel(self._run.id):
            self._run = replace(self._run, cancelled=True)
        left = self._left_seconds
        if self._run.cancelled or self._run.failure or left <= 0:
            return self._wind_up(is_away=is_away)
        if left < max(LAST_SECONDS, LAST_ANSWERS * self._answer_seconds):
            return left
        if not self._see(is_away=is_away):
            return None
        # Where Redis is far away a look takes long, and what is still to be drained must not wait for it.
        pause = max(min(max(LOOK_SECONDS, 2 * (system_clock.monotonic() - began)), left), BUSY_SECONDS)
        if self._drain.over:
            return pause
        self._drain.work(pause, self._goes_on)
        if self._drain.over:
            store.runs.note(office.token, self._run.id, gone=("draining",))
        return 0.0

    def _wind_up(self, *, is_away: bool) -> float | None:
        """Let no call begin any more; return None once none is under way, or all are cut."""
        run, left = self._run, self._left_seconds
        if left <= 0 and is_away:
            self._run = run = replace(run, failure=run.failure or REDIS_AWAY)
        if run.failure or self._office.stop.immediate:
            return None
        if left <= 0:  # one wait without a question, for Redis may be far away
            system_clock.sleep(max(0.0, left + OVERTIME_SECONDS))
            return None
        self._office.answer_requests(run.id)
        counts = self._store.ledger.count([*self._store.settings.types])
        return BUSY_SECONDS if any(count.inflight for count in counts.values()) else None

    def _see(self, *, is_away: bool) -> bool:
        """Forecast, note what events wait for, answer requests; return whether anything is left to do."""
        store, token, forecaster = self._store, self._office.token, self._forecaster
        types, workers = types_in_force(store), store.processes.alive(Role.WORKER)
        self._adopt(types, {worker.revision for worker in workers})
        run, wanted = self._run, store.processes.wanted()
        team = forecaster.team(workers, run.revision, max(wanted, store.settings.workers.min))
        look = forecaster.look(types, team, self._left_seconds, self._answer_seconds)
        self._note(replace(look, away=is_away), types)
        plan = forecaster.plan(look, team, wanted, run)
        if plan.workers > wanted and not team.shortage:  # never fewer: workers leave when the run closes
            store.runs.want(token, plan.workers)
            extra = {"action": "scale", "run_id": run.id}
            log.info("Run %s takes %d workers instead of %d", run.id, plan.workers, wanted, extra=extra)
        fields: dict[str, str | int] = {
            "waits": _json(self._waits),
            "forecast": _json(forecaster.forecast(plan, look, team, run)),
            "workers_peak": max(run.workers_peak, team.usable),
        }
        unfit = self._office.check_fit()
        fields |= {"barred": 1} if unfit else {}  # no call begins
        gone = [*([] if plan.fits else ["most"]), *([] if unfit else ["barred"])]
        store.runs.note(token, run.id, gone=gone, **fields)
        self._run = replace(run, workers_peak=max(run.workers_peak, team.usable))
        store.archivist.step()  # of the letters that workers write
        self._office.answer_requests(run.id)
        return not self._drain.over or any(count.open for count in look.counts.values())

    def _note(self, look: Look, types: tuple[EventType, ...]) -> None:
        """Note what events have waited for since the last look."""
        reasons = {kind.name: reason for kind in types if (reason := reason_of(look, kind))}
        self._waits = add_look(self._waits, self._run.deadline - look.left_seconds, reasons)

    def _adopt(self, types: tuple[EventType, ...], revisions: set[str]) -> None:
        """Give the run this conductor's configuration if the last worker of the one it began with is gone."""
        store, token, revision = self._store, self._office.token, self._store.settings.revision
        if self._run.revision in {revision, *revisions}:
            return
        store.publish_limits(token)  # first, so that its budgets count earlier calls
        store.rules.publish(token, types, self._forecaster.expected)
        store.runs.note(token, self._run.id, revision=revision)
        store.processes.wake("workers")
        self._run = replace(self._run, revision=revision)
        told = "Run %s began with another configuration, of which no worker is left; it continues with this one"
        log.info(told, self._run.id, extra={"action": "adopt_run", "run_id": self._run.id})

    def _close(self) -> None:
        """End and close the run, unless a lane has, or had it ended: then its actor closes it, if it lives."""
        store, run, failure = self._store, self._run, self._run.failure
        if run.state is State.FINISHING:
            until = system_clock.monotonic() + ACTOR_SECONDS
            while system_clock.monotonic() < until and store.runs.is_open(run.id):
                self._office.stop.wakeup.wait(BUSY_SECONDS)
        else:
            crash_point("finish.due")
            is_lacking = any("workers" in seconds for seconds in self._waits.by_type.values())
            has_come = run.workers_peak or run.first_release_at is not None  # it may die between two looks
            if is_lacking and not has_come and not run.cancelled:
                failure = failure or "no worker came up"
        close_run(store, run.id, token=self._office.token, failure=failure)

    def _advance(self, state: State, **fields: str | float) -> None:
        self._office.keep()
        self._store.runs.advance(self._office.token, self._run.id, state, **fields)


def _json(document: object) -> str:
    return msgspec.json.encode(document).decode()
