"""The life of an open run: it is drained, planned, looked at once a second while lanes make its calls, and closed.

Lanes pull their calls by themselves (`rlm/delivery/lane.py`). While they do, the conductor forecasts the end, wants
more workers where they help, notes what events wait for, and answers requests. Without it the calls go on, a lane has
the run closed, and a standby goes on with the looks.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from functools import cached_property

import msgspec
from msgspec.structs import replace

from rlm.admin.planning import COMING_UP_SECONDS, TURNAROUND_SECONDS, capacity_of, plan_run, room_of, types_in_force
from rlm.admin.words import planned
from rlm.core.call import CallEnd
from rlm.core.clock import system_clock
from rlm.core.documents import Plan, RunPlan
from rlm.core.endpoint import all_limited
from rlm.core.errors import FencedError, StoreError
from rlm.core.failpoints import crash_point
from rlm.core.run import Run, State, Waited
from rlm.core.text import counted
from rlm.delivery.run_end import REDIS_AWAY, close_run
from rlm.ledger.books import books
from rlm.ledger.events import read_due
from rlm.ledger.intake import Drain
from rlm.ledger.leases import Present, present
from rlm.ledger.processes import Role, WorkerState
from rlm.ledger.values import us_of
from rlm.ledger.waker import Outage
from rlm.plan import forecast
from rlm.plan.causes import Look, add_look, reason_of
from rlm.plan.situation import Workload
from scheduler.office import Office

#: A run drains so many items before it is planned, which takes a moment, or for so many seconds, if Redis is far away.
FIRST_ITEMS, FIRST_SECONDS = 10_000, 2.0
#: Seconds between two looks.
LOOK_SECONDS = 1.0
#: A look that comes so many seconds late was kept back by Redis, and so was what lanes wait for.
GAP_SECONDS = 2.0
#: No look begins so shortly before the deadline, seconds, or within so many answers of Redis: it would close late.
LAST_SECONDS, LAST_ANSWERS = 0.2, 10
#: Seconds between two looks while only the last calls are awaited.
BUSY_SECONDS = 0.02
#: Calls are cut at the deadline; results that their workers write within so many seconds still count.
OVERTIME_SECONDS = 0.25
#: While nothing changes, so many seconds pass between two looks that read and plan everything.
STILL_SECONDS = 4.0
#: Seconds for which missing workers are still counted on: those that start, and successors of the dead.
PATIENCE_SECONDS = 4.0
#: Pause after Redis failed, seconds.
AWAY_SECONDS = 0.2

log = logging.getLogger(__name__)


class Conductor:
    """Conducts one run. Every write carries the lease's token, so a deposed conductor changes nothing.

    Every method raises FencedError if another conductor took over, StoreError if Redis did not answer: then conduct the
    run again later.
    """

    def __init__(self, office: Office, run: Run) -> None:
        self._office = office
        self._store = office.store
        self._run = run
        self._there: Present  #: what was last read, with the run
        self._scene: object = None  #: what the last full look saw, and about when
        self._answered_us = 0  #: when the newest call was completed, microseconds of Redis time

    @cached_property
    def _drain(self) -> Drain:  # a list that cannot be read must not keep a run open
        return Drain(self._store, self._office.token, self._run)

    def conduct(self) -> None:
        """Conduct the run to its record, from whatever state another conductor may have left it in."""
        if self._run.state in {State.DRAINING, State.PLANNING} and not self._run.failure and self._left_seconds > 0:
            self.drain()
            plan = self.plan()
            self.scale(plan)
        self.await_end()

    def drain(self) -> None:
        """Take what waits on the audit list, or the first piece of it: the rest is taken between looks."""
        store, token, run_id = self._store, self._office.token, self._run.id
        until = system_clock.monotonic() + FIRST_SECONDS  # the calls of others wait for it; the next run goes on
        for name in store.ledger.types():
            if name not in store.settings.types and (
                failed := store.ledger.fail_unknown(token, run_id, name, lambda: self._goes_on(until))
            ):
                told = "%d events of %s, which is no longer configured, became dead letters"
                log.warning(told, failed, name, extra={"action": "fail_unknown", "run_id": run_id})
        self._drain.work(FIRST_SECONDS, self._goes_on, FIRST_ITEMS)
        crash_point("drain.done")
        self._office.keep()
        store.runs.note(token, run_id, state=State.PLANNING)

    def _goes_on(self, until: float = math.inf) -> bool:
        """Keep the lease between chunks of a drain; return whether to continue it, which is not later than `until`."""
        self._office.keep()
        return not self._office.stop.graceful and system_clock.monotonic() < until

    def plan(self) -> Plan:
        """Publish the limits and what lanes must know; plan what is taken and still to take; let lanes begin."""
        store, token = self._store, self._office.token
        self._publish()
        crash_point("plan.limits_published")
        self._read()
        run, look = self._run, self.look(0)
        plan = self.plan_rest(look, 0)
        fields: dict[str, str | int] = {
            "plan": _json(msgspec.convert(plan, RunPlan, from_attributes=True)),
            "restarts_before": self._there.restarts,
            "waits": self._waits(replace(look, lanes=max(1, look.lanes))),  # a lane may close the run before a look
        }
        fields |= {"most": 1} if plan.most else {}
        fields |= {} if self._drain.over else {"draining": 1}
        if sharing := [(kind.name, kind.share) for kind in look.types if kind.share]:
            fields["shares"] = _json(sharing)
        self._office.keep()
        store.runs.start(token, run.id, **fields)  # lanes may have calls from here on, and are woken
        crash_point("plan.written")
        extra = {"action": "plan", "run_id": run.id}
        log.info("Run %s is planned: %s: %s", run.id, planned(plan), plan.binds, extra=extra)
        return plan

    def scale(self, plan: Plan) -> None:
        """Want as many workers as planned, on all hosts together."""
        self._store.runs.want(self._office.token, self._run.id, plan.workers)
        crash_point("plan.workers_wanted")

    def await_end(self) -> None:
        """Look at the run until nothing more can be done in it, or it is to end; then close it.

        A scheduler that is told to stop leaves it open: lanes go on, and close it if no other scheduler comes.
        """
        office, outage, due_at = self._office, Outage(log, "conduct"), math.inf
        while office.cancels or not office.stop.graceful:
            is_away = bool(office.unfit) or system_clock.monotonic() > due_at + GAP_SECONDS
            try:
                with self._store.guarded():  # whatever stands in Redis is no reason to end
                    if (pause := self._look_once(is_away=is_away)) is None:
                        return self._close()
            except FencedError:
                raise
            except StoreError as error:
                outage.tell(error, "calls wait meanwhile", run_id=self._run.id)
                if office.stop.graceful:
                    raise
                pause, due_at = AWAY_SECONDS, -math.inf
            else:
                outage.over()
                due_at = system_clock.monotonic() + pause
            office.stop.wait(pause)
        return None

    def _read(self) -> bool:
        """Read the run; return whether it is still open."""
        keys = self._store.keys
        beside = ("HGETALL", keys.requests), ("LLEN", keys.failed), ("LRANGE", keys.changes, 0, 0)
        self._there = present(self._store, *beside, ("HGETALL", keys.tally), ("ZRANGE", keys.due, 0, -1, "WITHSCORES"))
        if self._store.clock.doubts[1]:  # the clock of Redis stepped: as it is renewed, the lease moves the deadline
            self._office.keep()
            return self._read()
        if self._there.run is None or self._there.run.id != self._run.id:
            return False
        self._run = self._there.run
        return True

    @property
    def _left_seconds(self) -> float:
        """The seconds to the deadline, by the clock of Redis as it is known here."""
        return self._run.left_seconds(us_of(self._store.clock.now()))

    def _look_once(self, *, is_away: bool) -> float | None:
        """Look once; return in how many seconds to look again, None if the run has been closed, or is to end now."""
        office, store, began = self._office, self._store, system_clock.monotonic()
        office.keep()
        if office.cancels and office.stop.graceful and not self._run.cancelled:
            store.runs.cancel(self._run.id)
        if not self._read() or self._run.state is State.FINISHING:
            return None
        left = self._left_seconds
        if self._run.cancelled or self._run.failure or left <= 0:
            return self._wind_up(is_away=is_away)
        if left < max(LAST_SECONDS, LAST_ANSWERS * self._there.answer_seconds):
            office.stop.wait(left)  # and then to end it without another question, unless somebody asks for something
            return 0.0 if self._left_seconds > 0 else self._wind_up(is_away=is_away)
        is_away = bool(office.check_fit()) or is_away
        goes_on = (not is_away and self._is_still()) or self._see(is_away=is_away)
        requests, letters, *_ = self._there.replies
        while store.letters.archive_some(letters) and system_clock.monotonic() < began + LOOK_SECONDS:
            letters = None  # there are still more than are kept, of those that workers write
        office.answer_requests(self._run.id, requests)
        if not goes_on:
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
        self._office.answer_requests(run.id, self._there.replies[0])
        return BUSY_SECONDS if self._is_calling() else None

    def _is_calling(self) -> bool:
        """Return whether a call was under way after the run was last read: if that was cancelled, none begins since."""
        return any(not is_later for _, is_later, _ in read_due(self._there.replies[-1]))

    def _is_still(self) -> bool:
        """Return whether nothing has changed since the last full look, which is recent: another would show the same."""
        workers = [(each.id, each.state, each.sleeping) for each in self._there.living(Role.WORKER)]
        scene = self._there.replies[2:], workers, system_clock.monotonic() // STILL_SECONDS, self._is_short()
        is_same, self._scene = scene == self._scene, scene
        return is_same and self._drain.over and not self._is_calling()

    def _see(self, *, is_away: bool) -> bool:
        """Forecast, want more workers, note what events wait for; return whether anything is left to do."""
        store, token = self._store, self._office.token
        self._adopt()
        run, wanted = self._run, max(self._there.wanted, store.settings.workers.min)
        look = self.look(wanted, is_away=is_away)
        plan = self.plan_rest(look, wanted)
        if plan.workers > wanted and not look.shortage:  # never fewer: workers leave when the run closes
            store.runs.want(token, run.id, plan.workers)
            extra = {"action": "scale", "run_id": run.id}
            log.info("Run %s takes %d workers instead of %d", run.id, plan.workers, wanted, extra=extra)
        beyond = self._drain.left - self._drain.takes(look.left_seconds)
        fields: dict[str, str | int] = {
            "waits": self._waits(look),
            "forecast": _json(forecast(run, look, plan, self._answered_us, beyond)),
            "workers_peak": max(run.workers_peak, look.workers),
        }
        fields |= {"barred": 1} if self._office.unfit else {}  # no call begins
        gone = [*([] if plan.fits else ["most"]), *([] if self._office.unfit else ["barred"])]
        store.runs.note(token, run.id, gone=gone, **fields)
        return not self._drain.over or any(count.open for count in look.counts.values())

    def look(self, wanted: int, *, is_away: bool = False) -> Look:
        """Return what there is of the run, if so many workers are wanted.

        Publish what to expect of calls, and the limits, as far as they have changed.
        """
        store, run, types = self._store, self._run, types_in_force(self._store, self._there.limits)
        workers = self._there.living(Role.WORKER)
        ready = [each for each in workers if each.state == WorkerState.READY and each.revision == run.revision]
        ready = [worker for worker in ready if not worker.sleeping]
        calls = [call for call in store.calls.look() if call.run_id == run.id and call.end is CallEnd.COMPLETED]
        self._answered_us = max([self._answered_us, *(call.ended_us for call in calls)])
        expected = store.calls.expected(types, run.id)
        store.rules.adjust(self._office.token, types, expected)
        limited = all_limited(end for kind in types for end in kind.endpoints)
        names, ids = [kind.name for kind in types], [worker.id for worker in workers]  # all of these may have calls
        there = books(store, names, limited, ids)
        now, shortage = system_clock.monotonic(), ""
        if wanted:
            self._office.short_since = min(now, self._office.short_since) if len(ready) < wanted else math.inf
        if wanted and self._is_short():
            present = f"{counted(len(ready), 'worker')} ready" if ready else "no worker is ready"
            shortage = f"{present} of {wanted} wanted"
        return Look(
            there.by_type,
            there.windows,
            sum(worker.threads for worker in ready),
            self._left_seconds,
            types,
            expected,
            tuple(there.underway),
            workers=len(ready),
            shortage=shortage,
            is_away=is_away,
            answer_seconds=self._there.answer_seconds,
            room=room_of(store.settings, self._there),
        )

    def _is_short(self) -> bool:
        """Return whether workers are missing that are no longer counted on."""
        return system_clock.monotonic() - self._office.short_since >= PATIENCE_SECONDS

    def plan_rest(self, look: Look, wanted: int) -> Plan:
        """Plan what waits and is still to be taken, from the windows and the calls under way.

        An event in flight without a known call counts as waiting. Without a lane, calls begin once workers are up.
        """
        store, settings, run = self._store, self._store.settings, self._run
        untaken, calls = self._drain.untaken(look.left_seconds), Counter(call.type for call in look.calls)
        waiting = {
            name: count.open - min(count.inflight, calls[name]) + untaken.get(name, 0)
            for name, count in look.counts.items()
        }
        tally = store.runs.tally() if any(kind.share for kind in look.types) else {}
        begun = {name: tally.get(f"begun:{name}", 0) for name in waiting}
        lead = 0.0 if look.lanes else COMING_UP_SECONDS
        windows = {name: window.later(lead) for name, window in look.windows.items()}
        workload = Workload(waiting, look.types, windows, look.expected, look.calls, begun)
        turnaround = max(TURNAROUND_SECONDS, look.answer_seconds)
        capacity = capacity_of(settings, wanted, turnaround, room=look.room)
        if look.shortage:  # it stays so; otherwise all that are wanted come
            capacity = capacity.exactly(look.workers)
        gone = run.window_seconds - look.left_seconds + lead
        return plan_run(settings, workload, capacity, gone, run.window_seconds)

    def _waits(self, look: Look) -> str:
        """Return as JSON what events have waited for up to this look."""
        run = self._run
        reasons = {kind.name: reason for kind in look.types if (reason := reason_of(look, kind))}
        return _json(add_look(run.waits or Waited(run.started_at), run.deadline - look.left_seconds, reasons))

    def _publish(self) -> None:
        """Publish the limits, first, so that budgets count earlier calls; then what lanes must know of endpoints."""
        self._store.rules.publish_limits(self._office.token)
        self._store.rules.publish(self._office.token, types_in_force(self._store), {})

    def _adopt(self) -> None:
        """Give the run this conductor's configuration if the last worker of the one it began with is gone."""
        store, run, revision = self._store, self._run, self._store.settings.revision
        if run.revision in {revision, *(worker.revision for worker in self._there.living(Role.WORKER))}:
            return
        self._publish()
        store.runs.note(self._office.token, run.id, revision=revision)
        store.processes.wake("workers")
        self._run = replace(run, revision=revision)
        told = "Run %s began with another configuration, of which no worker is left; it continues with this one"
        log.info(told, run.id, extra={"action": "adopt_run", "run_id": run.id})

    def _close(self) -> None:
        """End and close the run. If a lane had it ended, its actor may be closing it; whoever is first does."""
        run, failure = self._run, self._run.failure
        crash_point("finish.due")
        is_lacking = run.waits and any("workers" in seconds for seconds in run.waits.by_type.values())
        has_come = run.workers_peak or run.first_release_at is not None  # it may die between two looks
        if is_lacking and not has_come and not run.cancelled:
            failure = failure or "no worker was ready"
        if run.state in {State.DRAINING, State.PLANNING} and not run.cancelled:
            failure = failure or "it was not planned before its deadline"
        close_run(self._store, run.id, token=self._office.token, failure=failure)


def _json(document: object) -> str:
    return msgspec.json.encode(document).decode()
