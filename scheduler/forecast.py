"""The plan of a run, and its forecast: who is there to do it, and what remains, planned anew at each look."""

from __future__ import annotations

from collections import Counter

import msgspec
from msgspec.structs import replace

from rlm.admin.planning import COMING_UP_SECONDS, capacity_of, plan_run, room_of, types_in_force
from rlm.core.call import TURNAROUND_SECONDS, CallEnd
from rlm.core.clock import system_clock
from rlm.core.documents import RunPlan
from rlm.core.endpoint import all_limited
from rlm.core.run import Run
from rlm.core.text import counted
from rlm.ledger.books import take_snapshot
from rlm.ledger.intake import Drain
from rlm.ledger.processes import Role, WorkerState
from rlm.ledger.store import Store
from rlm.plan import Plan
from rlm.plan.causes import Look
from rlm.plan.situation import Workload

#: Seconds for which missing workers are still counted on: those that start, and successors of the dead.
PATIENCE_SECONDS = 4.0


class Forecaster:
    """Looks at one run, for the conductor with the `token`, and plans what remains of it."""

    def __init__(self, store: Store, token: int, drain: Drain) -> None:
        self._store = store
        self._token = token
        self._drain = drain
        self._short_since: float | None = None
        self._answered_us = 0  #: when the newest call was completed, microseconds of Redis time

    def look(self, run: Run, wanted: int, left_seconds: float, answer_seconds: float, *, away: bool = False) -> Look:
        """Return what there is of a run `left_seconds` before its deadline, if so many workers are wanted.

        Publish what to expect of calls, and the limits, as far as they have changed.
        """
        store, types = self._store, types_in_force(self._store)
        workers = store.processes.alive(Role.WORKER)
        usable = [each for each in workers if each.state == WorkerState.READY and each.revision == run.revision]
        awake = [worker for worker in usable if not worker.sleeping]
        ended = [
            call.ended_us for call in store.calls.look() if call.run_id == run.id and call.end is CallEnd.COMPLETED
        ]
        self._answered_us = max([self._answered_us, *ended])
        expected = store.calls.expected(types, run.id)
        store.rules.adjust(self._token, types, expected)
        limited = all_limited(end for kind in types for end in kind.endpoints)
        names, ids = [kind.name for kind in types], [worker.id for worker in workers]  # all of these may have calls
        counts, windows, calls = take_snapshot(store, names, limited, ids)
        return Look(
            counts,
            windows,
            sum(worker.threads for worker in awake),
            left_seconds,
            types,
            expected,
            calls,
            usable=len(usable),
            awake=len(awake),
            shortage=self._shortage(len(awake), wanted),
            away=away,
            answer_seconds=answer_seconds,
        )

    def _shortage(self, awake: int, wanted: int) -> str:
        """Return how many workers are missing, empty if none is, or they may be on their way."""
        now = system_clock.monotonic()
        self._short_since = None if awake >= wanted else now if self._short_since is None else self._short_since
        if self._short_since is None or now - self._short_since < PATIENCE_SECONDS:
            return ""
        there = f"{counted(awake, 'worker')} ready" if awake else "no worker is ready"
        return f"{there} of {wanted} wanted"

    def plan(self, run: Run, look: Look, wanted: int) -> Plan:
        """Plan what waits and is still to be taken, from the windows and the calls under way.

        An event in flight without a known call counts as waiting. Without a lane, calls begin once workers are up.
        """
        store, settings = self._store, self._store.settings
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
        capacity = capacity_of(settings, wanted, turnaround, room=room_of(store))
        if look.shortage:  # it stays so; otherwise all that are wanted come
            capacity = capacity.exactly(look.awake)
        gone = run.window_seconds - look.left_seconds + lead
        return plan_run(settings, workload, capacity, gone, run.window_seconds)

    def forecast(self, run: Run, look: Look, plan: Plan) -> RunPlan:
        """Return how a run will end by a plan of what remains; its time counts from the run's first call."""
        beyond = self._drain.left - self._drain.takes(look.left_seconds)
        spent = sum(count.spent for count in look.counts.values())
        binds = look.shortage if plan.expected_leftover and look.shortage else plan.binds
        binds += f"; {counted(spent, 'event')} had all attempts of this run" if spent else ""
        binds += f"; {counted(beyond, 'item')} cannot be taken before the deadline" if beyond else ""
        end, first_call_at, now = plan.forecast_seconds, run.first_release_at, run.deadline - look.left_seconds
        if first_call_at is not None:
            last = min(now, run.moment(self._answered_us)) if self._answered_us else first_call_at
            # If no call remains, it is the last answer.
            end = now - first_call_at + plan.first_call_seconds + end if end else max(0.0, last - first_call_at)
        first_call = end - plan.forecast_seconds
        return replace(
            msgspec.convert(plan, RunPlan, from_attributes=True),
            forecast_seconds=round(end, 3),
            lower_bound_seconds=round(first_call + plan.lower_bound_seconds, 3),
            expected_leftover=plan.expected_leftover + spent,
            binds=binds,
            course=tuple((round(first_call + at, 1), number) for at, number in plan.course),
            shortage=look.shortage or None,
        )
