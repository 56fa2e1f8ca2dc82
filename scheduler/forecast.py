"""The plan of a run, and its forecast: who is there to do it, and what remains, planned anew once a second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from rlm.admin.planning import COMING_UP_SECONDS, capacity_of, plan_run, room_of
from rlm.core.call import TURNAROUND_SECONDS, CallEnd, Expected, Pair
from rlm.core.clock import system_clock
from rlm.core.documents import RunPlan
from rlm.core.endpoint import EventType, all_limited
from rlm.core.run import Run
from rlm.core.text import counted
from rlm.ledger.books import take_snapshot
from rlm.ledger.intake import Drain
from rlm.ledger.processes import Process, WorkerState
from rlm.plan import Plan
from rlm.plan.causes import Look
from rlm.plan.situation import Workload, stuck
from scheduler.office import Office

#: Seconds for which missing workers are still counted on: those that start, and successors of the dead.
PATIENCE_SECONDS = 4.0


class Team(msgspec.Struct, frozen=True):
    """The workers of a run: those `usable`, those `ready` of them, which do not sleep, and the `lanes` of these.

    `ids` are all that may have calls. `shortage` says how many are missing; it is empty if they are on their way.
    """

    usable: int = 0
    ready: int = 0
    lanes: int = 0
    ids: tuple[str, ...] = ()
    shortage: str = ""


class Forecaster:
    """Follows one run: measures its calls, and plans what remains of it."""

    def __init__(self, office: Office, run: Run, drain: Drain) -> None:
        self._office = office
        self._store = office.store
        self._run_id = run.id
        self._drain = drain
        self.expected: Mapping[Pair, Expected] = {}  #: what to expect of calls, as of the last look
        self._answered_us = 0  #: when the newest call was completed, microseconds of Redis time
        self._types: Sequence[EventType] = ()  #: with the limits in force
        self._published: Mapping[Pair, Expected] | None = None
        tally = office.store.runs.tally()
        self._carried = {name: tally.get(f"carried:{name}", 0) for name in office.store.settings.types}
        self._short_since: float | None = None

    def _measure(self, types: Sequence[EventType]) -> None:
        """Read the calls that ended since the last look; the first time, what to expect by earlier ones."""
        calls = [call for call in self._store.calls.look() if call.run_id == self._run_id]
        if calls or not self.expected:
            self.expected = self._store.calls.expected(types, self._run_id)
        answered = (call.ended_us for call in calls if call.end is CallEnd.COMPLETED)
        self._answered_us = max([self._answered_us, *answered])

    def team(self, workers: Sequence[Process], revision: str, wanted: int) -> Team:
        """Return who of the living `workers` is there for a run of this `revision`, if `wanted` are wanted."""
        ready = [worker for worker in workers if worker.state == WorkerState.READY]
        usable = [worker for worker in ready if worker.revision == revision]
        awake = [worker for worker in usable if not worker.sleeping]
        ids = tuple(worker.id for worker in workers)
        team = Team(len(usable), len(awake), sum(worker.threads for worker in awake), ids)
        if len(awake) >= wanted:
            self._short_since = None
            return team
        now = system_clock.monotonic()
        self._short_since = now if self._short_since is None else self._short_since
        if now - self._short_since < PATIENCE_SECONDS:
            return team
        there = f"{counted(len(awake), 'worker')} ready" if awake else "no worker is ready"
        return replace(team, shortage=f"{there} of {wanted} wanted")

    def look(self, types: Sequence[EventType], team: Team, left_seconds: float, answer_seconds: float) -> Look:
        """Return what there is of a run `left_seconds` before its deadline; Redis took `answer_seconds` to answer.

        Publish what to expect of calls if that, or a limit, has changed: what was published before may have the limit
        before.
        """
        self._measure(types)
        if (self._types, self._published) != (types, self.expected):
            self._store.rules.adjust(self._office.token, types, self.expected)
            self._types, self._published = types, self.expected
        limited = all_limited(end for kind in types for end in kind.endpoints)
        counts, windows, calls = take_snapshot(self._store, [kind.name for kind in types], limited, team.ids)
        there = counts, windows, team.lanes, left_seconds, self.expected, calls
        return Look(*there, answer_seconds=answer_seconds)

    def plan(self, look: Look, team: Team, wanted: int, run: Run) -> Plan:
        """Plan what waits and is still to be taken, from the windows and the calls under way.

        An event in flight without a known call counts as waiting. Without a lane, calls begin once workers are up.
        """
        untaken, calls = self._drain.untaken(look.left_seconds), Counter(call.type for call in look.calls)
        waiting, begun = {}, {}
        for name, count in look.counts.items():
            new = untaken.get(name, 0)
            waiting[name] = count.pending + count.backoff + max(0, count.inflight - calls[name]) + new
            begun[name] = max(0, self._drain.taken.get(name, 0) + self._carried.get(name, 0) + new - waiting[name])
        lead = 0.0 if look.lanes else COMING_UP_SECONDS
        windows = {name: window.later(lead) for name, window in look.windows.items()}
        expected = {**look.expected, **stuck(look.calls, self._types, look.expected)}
        workload = Workload(waiting, self._types, windows, expected, look.calls, begun)
        settings, turnaround = self._store.settings, max(TURNAROUND_SECONDS, look.answer_seconds)
        capacity = capacity_of(settings, wanted, turnaround, room=room_of(self._store))
        if team.shortage:  # it stays so; otherwise all that are wanted come
            capacity = capacity.exactly(team.ready)
        gone = run.window_seconds - look.left_seconds + lead
        return plan_run(settings, workload, capacity, gone, run.window_seconds)

    def forecast(self, plan: Plan, look: Look, team: Team, run: Run) -> RunPlan:
        """Return how the run will end by a plan of what remains."""
        now = run.deadline - look.left_seconds
        beyond = self._drain.left - self._drain.takes(look.left_seconds)
        spent = sum(count.spent for count in look.counts.values())
        binds = team.shortage if plan.expected_leftover and team.shortage else plan.binds
        binds += f"; {counted(spent, 'event')} had all attempts of this run" if spent else ""
        binds += f"; {counted(beyond, 'item')} cannot be taken before the deadline" if beyond else ""
        end = round(self._seconds_in_all(plan, now, run), 3)
        return RunPlan(
            workers=plan.workers,
            threads=plan.threads,
            forecast_seconds=end,
            lower_bound_seconds=round(end - plan.forecast_seconds + plan.lower_bound_seconds, 3),
            expected_leftover=plan.expected_leftover + spent,
            binds=binds,
            shortage=team.shortage or None,
            course=tuple((round(end - plan.forecast_seconds + at, 1), number) for at, number in plan.course),
        )

    def _seconds_in_all(self, plan: Plan, now: float, run: Run) -> float:
        """Return the forecast in seconds from the run's first call; if no call remains, until its last answer."""
        if (first_call_at := run.first_release_at) is None:
            return plan.forecast_seconds
        if plan.forecast_seconds:
            return now - first_call_at + plan.first_call_seconds + plan.forecast_seconds
        return max(0.0, min(now, run.moment(self._answered_us)) - first_call_at) if self._answered_us else 0.0
