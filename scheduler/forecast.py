"""The forecast of an open run: what remains is planned anew once a second, by the same simulation."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from rlm.admin.planning import capacity_of, coming_up_seconds, plan_run, room_of
from rlm.core.clock import isoformat, system_clock
from rlm.core.documents import RunForecast
from rlm.core.endpoint import EventType
from rlm.core.expected import TURNAROUND_SECONDS, Expected, Pair
from rlm.core.run import Run
from rlm.core.text import counted
from rlm.ledger.drain import Drain
from rlm.ledger.measures import Measuring
from rlm.ledger.reading.books import Snapshot
from rlm.ledger.store import Store
from rlm.plan import Plan
from rlm.plan.causes import Look
from rlm.plan.situation import RunProgress, Workload
from scheduler.team import Team

#: Planning takes at most one part in so many of the conductor's time. With more endpoints and budgets than this the
#: first plan is final, because a plan takes seconds.
PLANNING_PART = 10
MANY_ENDPOINTS = 1000

log = logging.getLogger(__name__)


class Forecaster:
    """Follows one run: measures its calls, forecasts its end, and wants more workers if they would help."""

    def __init__(self, store: Store, token: int, run: Run, types: Sequence[EventType], drain: Drain) -> None:
        self._store = store
        self._token = token
        self._run = run
        self._drain = drain
        self.types = types  #: with the limits in force
        self.measuring = Measuring(store.measures, types, run.id)  #: the expected calls, as of the last look
        self._published: tuple[Sequence[EventType], Mapping[Pair, Expected]] | None = None
        tally = store.runs.tally()
        self._carried = {one.name: tally.get(f"carried:{one.name}", 0) for one in types}
        self._coming_up_seconds = coming_up_seconds(store)
        self._plan_next_at = float("-inf")

    def measure(self, types: Sequence[EventType]) -> None:
        """Read what calls took since the last look; publish what to expect of them if that, or a limit, has changed.

        What was published when a limit was changed may have the limit before.
        """
        self.measuring.look()
        if self._published != (types, self.measuring.expected):
            self._store.rules.adjust(self._token, types, self.measuring.expected)
            self._published = types, self.measuring.expected
        self.types = types

    def plan_soon(self) -> None:
        """Plan at the next look, whatever the last plan cost: all is taken by now."""
        self._plan_next_at = float("-inf")

    def look(
        self, look: Look, snapshot: Snapshot, team: Team, wanted: int, first_call_at: float | None
    ) -> tuple[RunForecast, Plan] | None:
        """Plan what remains, if the last plan is old enough; want more workers than are `wanted` if they would help.

        `first_call_at` is in seconds since 1970.
        """
        began = system_clock.monotonic()
        if began < self._plan_next_at or len(look.windows) > MANY_ENDPOINTS:
            return None
        plan = self._plan(look, snapshot, wanted, team)
        if plan.workers > wanted and not team.shortage:  # never fewer: workers leave when the run closes
            self._store.runs.want(self._token, plan.workers)
            extra = {"action": "scale", "run_id": self._run.id}
            log.info("Run %s takes %d workers instead of %d", self._run.id, plan.workers, wanted, extra=extra)
        self._plan_next_at = began + PLANNING_PART * (system_clock.monotonic() - began)
        return self._forecast(plan, look, snapshot, team, first_call_at), plan

    def _forecast(
        self, plan: Plan, look: Look, snapshot: Snapshot, team: Team, first_call_at: float | None
    ) -> RunForecast:
        now = self._run.deadline - look.remaining_seconds
        beyond = self._drain.left - self._drain.takes(look.remaining_seconds)
        end = round(self._seconds_in_all(plan, now, first_call_at), 3)
        spent = sum(count.spent for count in snapshot.counts.values())
        binds = team.shortage if plan.expected_leftover and team.shortage else plan.binds
        binds += f"; {counted(spent, 'event')} had all attempts of this run" if spent else ""
        binds += f"; {counted(beyond, 'item')} cannot be taken before the deadline" if beyond else ""
        return RunForecast(
            as_of=isoformat(now),
            forecast_seconds=end,
            expected_leftover=plan.expected_leftover + spent,
            workers=plan.workers,
            binds=binds,
            blamed=() if team.shortage else plan.blamed,
            shortage=team.shortage or None,
            short_since=isoformat(now - team.short_seconds) if team.shortage else None,
            leftover_by_type={name: of_type.expected_leftover for name, of_type in plan.by_type.items()},
            untaken=beyond,
            course=tuple((round(end - plan.forecast_seconds + at, 1), number) for at, number in plan.rounded_course()),
        )

    def _plan(self, look: Look, snapshot: Snapshot, wanted: int, team: Team) -> Plan:
        """Plan what waits and is still to be taken, from the windows and the calls under way.

        An event in flight without a known call counts as waiting. Without a lane, calls begin once workers are up. An
        endpoint that has answered no call of the run is not counted on, even before it has failed often enough to rest.
        """
        untaken, calls = self._drain.untaken(look.remaining_seconds), Counter(call.type for call in snapshot.calls)
        waiting, begun = {}, {}
        for name, count in snapshot.counts.items():
            new = untaken.get(name, 0)
            waiting[name] = count.pending + count.backoff + max(0, count.inflight - calls[name]) + new
            begun[name] = max(0, self._drain.taken.get(name, 0) + self._carried.get(name, 0) + new - waiting[name])
        lead = 0.0 if look.lanes else self._coming_up_seconds
        progress = RunProgress(snapshot.calls, begun, look.lanes or None, self._coming_up_seconds)
        windows = {name: replace(look.windows[name], ages=ages).later(lead) for name, ages in snapshot.ages.items()}
        windows |= {name: replace(windows[name], suspect=True) for name in self.measuring.down & {*windows}}
        workload = Workload(waiting, self.types, windows, self.measuring.expected, progress)
        settings, turnaround = self._store.settings, max(TURNAROUND_SECONDS, look.answer_seconds)
        capacity = capacity_of(settings, wanted, turnaround, room=room_of(self._store)).exactly(team.counted_on)
        gone = self._run.window_seconds - look.remaining_seconds + lead
        return plan_run(settings, workload, capacity, gone_seconds=gone, window_seconds=self._run.window_seconds)

    def _seconds_in_all(self, plan: Plan, now: float, first_call_at: float | None) -> float:
        """Return the forecast in seconds from the run's first call; if no call remains, until its last answer."""
        if first_call_at is None:
            return plan.forecast_seconds
        if plan.forecast_seconds:
            return now - first_call_at + plan.first_call_seconds + plan.forecast_seconds
        answered_us = max(self.measuring.answered_us.values(), default=0)
        return max(0.0, min(now, self._run.moment(answered_us)) - first_call_at) if answered_us else 0.0
