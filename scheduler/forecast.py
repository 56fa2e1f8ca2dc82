"""The forecast of an open run: what remains is planned anew once a second, by the same simulation."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property

from msgspec.structs import replace

from rlm.admin.planning import capacity_of, coming_up_seconds, plan_run, room_of
from rlm.core.clock import isoformat, system_clock
from rlm.core.documents import RunForecast
from rlm.core.endpoint import EventType, all_limited
from rlm.core.expected import TURNAROUND_SECONDS, Expected, Pair
from rlm.core.run import Run
from rlm.core.text import counted, done_after
from rlm.ledger import Store
from rlm.ledger.control import limits_by_hand
from rlm.ledger.drain import Drain
from rlm.ledger.measures import Measuring
from rlm.ledger.processes import HEARTBEAT_SECONDS
from rlm.ledger.reading.books import Snapshot
from rlm.plan import Plan
from rlm.plan.situation import MANY_ENDPOINTS, RunProgress, Workload
from rlm.plan.waits import Look
from scheduler.leader import Leader
from scheduler.team import Team

#: Planning takes at most one part in so many of the conductor's time.
PLANNING_PART = 10
#: Minimum seconds between two log lines about a forecast that changed.
REPORT_SECONDS = 10.0
#: So many plans in a row must ask for more workers, or for another order, before it is so: one may follow a hiccup.
SURE_PLANS = 2

log = logging.getLogger(__name__)


class Forecaster:
    """Follows one run: measures its calls, forecasts its end, and requests more workers if they would help."""

    def __init__(self, store: Store, leader: Leader, run: Run, types: Sequence[EventType], drain: Drain) -> None:
        self._store = store
        self._leader = leader
        self._run = run
        self._drain = drain
        self.measuring = Measuring(store, run.id)  #: the expected calls, as of the last look
        self._published: Mapping[Pair, Expected] | None = None
        tally = store.runs.tally()
        self._carried = {one.name: tally.get(f"carried:{one.name}", 0) for one in types}
        self._plan_next_at = self._report_next_at = float("-inf")
        self._short = self._unhelped = 0
        self._fits = True
        self._room: int | None = None
        self._room_until = float("-inf")
        self._leftover: int | None = None
        self._begins_at: float | None = None
        self.follow(types)

    def follow(self, types: Sequence[EventType]) -> None:
        """Plan with changed limits from now on; the types and their endpoints stay the same."""
        self._types, self._published = types, None  # what was published meanwhile may have the limits before
        self._limited = all_limited(end for one in types for end in one.endpoints)
        self._by_hand = limits_by_hand(self._store, self._limited)

    def measure(self) -> None:
        """Read what calls took since the last look; publish what is to be expected of them if that changed."""
        self.measuring.look()
        if self.measuring.expected is not self._published:
            self._store.rules.adjust(self._leader.token, self._types, self.measuring.expected)
            self._published = self.measuring.expected

    def look(
        self, look: Look, snapshot: Snapshot, team: Team, wanted: int, first_call_at: float | None
    ) -> RunForecast | None:
        """Plan what remains, if the last plan is old enough; want more workers than are `wanted` if they would help.

        `first_call_at` is in seconds since 1970. None also if there are so many endpoints that the first plan is final,
        because a plan takes seconds.
        """
        began = system_clock.monotonic()
        if began < self._plan_next_at or len(self._limited) > MANY_ENDPOINTS:
            return None
        # An endpoint that has answered no call of the run is not counted on either, before it has failed often enough
        # to rest: with a low limit that takes several periods.
        down = {name: replace(look.windows[name], suspect=True) for name in self.measuring.down & {*look.windows}}
        look = replace(look, windows={**look.windows, **down})
        plan = self._plan(look, snapshot, wanted, team)
        self._fits, self._unhelped = plan.fits, 0 if plan.most else self._unhelped + 1
        forecast = self._forecast(plan, look, snapshot, team, first_call_at)
        self._report(forecast)
        if not team.shortage:
            self._scale(plan.workers, wanted)
        self._plan_next_at = began + PLANNING_PART * (system_clock.monotonic() - began)
        return forecast

    def plan_soon(self) -> None:
        """Plan at the next look, whatever the last plan cost: all is taken by now."""
        self._plan_next_at = float("-inf")

    @property
    def drops_order(self) -> bool:
        """Whether *longest queue first* no longer helps, as of the last plans."""
        return not self._fits or self._unhelped >= SURE_PLANS

    def _forecast(
        self, plan: Plan, look: Look, snapshot: Snapshot, team: Team, first_call_at: float | None
    ) -> RunForecast:
        now = self._run.deadline - look.remaining_seconds
        beyond = self._drain.left - self._drain.takes(look.remaining_seconds)
        end = round(self._seconds_in_all(plan, now, first_call_at), 3)
        spent = sum(count.spent for count in snapshot.counts.values())
        return RunForecast(
            as_of=isoformat(now),
            forecast_seconds=end,
            expected_leftover=plan.expected_leftover + spent,
            workers=plan.workers,
            binds=_binds(plan, team, spent, beyond),
            blamed=() if team.shortage else plan.blamed,
            shortage=team.shortage or None,
            short_since=isoformat(now - team.short_seconds) if team.shortage else None,
            leftover_by_type={name: of_type.expected_leftover for name, of_type in plan.by_type.items()},
            untaken=beyond,
            probed=_probed(self._types, look, snapshot),
            course=tuple((round(end - plan.forecast_seconds + at, 1), number) for at, number in plan.rounded_course()),
        )

    def _plan(self, look: Look, snapshot: Snapshot, wanted: int, team: Team) -> Plan:
        untaken = self._drain.untaken(look.remaining_seconds)
        waiting = {name: number + untaken.get(name, 0) for name, number in _waiting(snapshot).items()}
        in_all = {
            name: self._drain.taken.get(name, 0) + self._carried.get(name, 0) + untaken.get(name, 0) for name in waiting
        }
        lead = self._lead_seconds(look)
        progress = RunProgress(
            snapshot.calls,
            {name: max(0, in_all[name] - number) for name, number in waiting.items()},
            look.lanes or None,  # without lanes, the plan begins when they come up
            self._coming_up_seconds,
        )
        windows = {name: replace(look.windows[name], ages=ages).later(lead) for name, ages in snapshot.ages.items()}
        workload = Workload(waiting, self._types, windows, self.measuring.expected, progress, self._by_hand)
        settings, turnaround = self._store.settings, max(TURNAROUND_SECONDS, look.answer_seconds)
        if (now := system_clock.monotonic()) >= self._room_until:
            self._room, self._room_until = room_of(self._store), now + HEARTBEAT_SECONDS
        capacity = capacity_of(settings, wanted, turnaround, room=self._room).exactly(team.counted_on)
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

    def _lead_seconds(self, look: Look) -> float:
        """Return the seconds until a call can be made: 0 if a lane is ready, else until workers have come up."""
        if look.lanes:
            self._begins_at = None
            return 0.0
        now = system_clock.monotonic()
        if self._begins_at is None:
            self._begins_at = now + self._coming_up_seconds
        return max(0.0, self._begins_at - now)

    @cached_property
    def _coming_up_seconds(self) -> float:
        """Seconds until a new worker is ready; read once in a run."""
        return coming_up_seconds(self._store)

    def _report(self, forecast: RunForecast) -> None:
        """Log a forecast whose leftover differs from the last one logged, at most every `REPORT_SECONDS`."""
        leftover, before = forecast.expected_leftover, self._leftover
        if before is not None and (before == leftover or system_clock.monotonic() < self._report_next_at):
            return
        self._leftover = leftover
        if before is not None:
            self._report_next_at = system_clock.monotonic() + REPORT_SECONDS
            told = "Run %s is planned anew: %s, left over %d instead of %d: %s"
            extra = {"action": "replan", "run_id": self._run.id}
            done = done_after(forecast.forecast_seconds)
            log.info(told, self._run.id, done, leftover, before, forecast.binds, extra=extra)

    def _scale(self, workers: int, wanted: int) -> None:
        """Want more workers if the plan needs more. Never want fewer: workers leave when the run closes."""
        self._short = self._short + 1 if workers > wanted else 0
        if self._short >= SURE_PLANS:
            self._short = 0
            self._store.runs.want(self._leader.token, workers)
            extra = {"action": "scale", "run_id": self._run.id}
            log.info("Run %s takes %d workers instead of %d", self._run.id, workers, wanted, extra=extra)


def _binds(plan: Plan, team: Team, spent: int, beyond: int) -> str:
    """Return in words what binds: missing workers if they cause leftovers, otherwise the plan's own constraint.

    Then `spent`, the events without attempts left in this run, and `beyond`, the items that cannot be taken in time.
    """
    told = plan.binds
    if team.shortage and plan.expected_leftover:
        told = team.shortage  # the forecast states the leftover separately
    told = f"{told}; {counted(spent, 'event')} had all attempts of this run" if spent else told
    return f"{told}; {counted(beyond, 'item')} cannot be taken before the deadline" if beyond else told


def _probed(types: Sequence[EventType], look: Look, snapshot: Snapshot) -> tuple[str, ...]:
    """Return the suspect endpoints with open events whose rest ends before the deadline: they are probed."""
    views = {
        each.name: look.windows[each.name]
        for kind in types
        if snapshot.counts[kind.name].open
        for each in kind.endpoints
    }
    return tuple(name for name, view in views.items() if view.suspect and view.rest_seconds < look.remaining_seconds)


def _waiting(snapshot: Snapshot) -> Mapping[str, int]:
    """Return by type how many events have no known call; events in flight without one count as waiting."""
    calls = Counter(call.type for call in snapshot.calls)
    return {
        name: count.pending + count.backoff + max(0, count.inflight - calls[name])
        for name, count in snapshot.counts.items()
    }
