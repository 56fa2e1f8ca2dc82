"""The forecast of an open run: what remains is planned anew several times a second."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property

import msgspec
from msgspec.structs import replace

from rlm.admin.planning import capacity_of, coming_up_seconds, plan_run, room_of
from rlm.core.clock import isoformat, system_clock
from rlm.core.documents import RunForecast
from rlm.core.endpoint import EventType, all_limited
from rlm.core.expected import Turnaround
from rlm.core.run import Run
from rlm.core.text import counted, done_after
from rlm.ledger import Store
from rlm.ledger.control import limits_by_hand
from rlm.ledger.measures import Measuring
from rlm.ledger.processes import HEARTBEAT_SECONDS
from rlm.ledger.reading.books import Snapshot, take_snapshot
from rlm.plan import Plan
from rlm.plan.choose_releases import ReleaseState, short_of_lanes
from rlm.plan.situation import MANY_ENDPOINTS, RunProgress, Workload
from scheduler.leader import Leader
from scheduler.team import Team

#: Minimum seconds between two plans: so soon the forecast and the number of workers follow a change.
REPLAN_SECONDS = 0.25
#: Planning takes at most one part in so many of the release loop's time.
PLANNING_PART = 10
#: Minimum seconds between two log lines about a forecast that changed.
REPORT_SECONDS = 10.0
#: So many plans in a row must ask for more workers before more are wanted: a single one may follow a hiccup.
SHORT_PLANS = 2

log = logging.getLogger(__name__)


class Forecaster:
    """Follows one run: measures its calls, forecasts its end, and requests more workers if they would help."""

    def __init__(self, store: Store, leader: Leader, run: Run, types: Sequence[EventType]) -> None:
        self._store = store
        self._leader = leader
        self._run = run
        self._names = [one.name for one in types]
        self.measuring = Measuring(store, run.id)  #: the expected calls, as of the last look
        self.turnaround = Turnaround()  #: the time of a lane between two calls, as of the last look
        self.kept: Mapping[str, int] = run.plan.kept if run.plan else {}  #: lanes kept for types, as of the last plan
        self._published = self.measuring.expected
        self._report_next_at = float("-inf")
        self._short = 0
        self._leftover: int | None = None
        self._begins_at: float | None = None
        self._room_now: int | None = None
        self._room_until = float("-inf")
        self.follow(types)
        self._plan_next_at = system_clock.monotonic() + REPLAN_SECONDS  # the run has its first plan

    def follow(self, types: Sequence[EventType]) -> None:
        """Plan with changed limits from now on; the types and their endpoints stay the same."""
        self._types = types
        self._limited = all_limited(end for one in types for end in one.endpoints)
        self._by_hand = limits_by_hand(self._store, self._limited)
        self._plan_next_at = float("-inf")

    def look(self, scene: ReleaseState, workers: Sequence[str], team: Team, first_release_at: float | None) -> None:
        """Plan what remains if the last plan is old enough; publish the forecast and the wanted number of workers.

        `workers` are the ids of all that may have calls in flight; `first_release_at` is in seconds since 1970.
        """
        began = system_clock.monotonic()
        self.turnaround.look(self._run.deadline - scene.remaining_seconds, short=short_of_lanes(scene, self._types))
        if began < self._plan_next_at:
            return
        self._plan_next_at = began + REPLAN_SECONDS
        for call in self.measuring.look():
            self.turnaround.complete(call, self._run.moment(call.at_us))
        if self.measuring.expected is not self._published:
            self._published = self.measuring.expected
            self._store.measures.publish(self._leader.token, self._published)
        if len(self._limited) <= MANY_ENDPOINTS:  # with more a plan takes seconds, so the first one is final
            self._forecast(scene, workers, team, first_release_at)
        self._plan_next_at = max(self._plan_next_at, began + PLANNING_PART * (system_clock.monotonic() - began))

    def _forecast(
        self, scene: ReleaseState, workers: Sequence[str], team: Team, first_release_at: float | None
    ) -> None:
        # An endpoint that has answered no call of the run is not counted on either, before it has failed often enough
        # to rest: with a low limit that takes several periods.
        down = {name: replace(scene.windows[name], suspect=True) for name in self.measuring.down & {*scene.windows}}
        scene = replace(scene, windows={**scene.windows, **down})
        wanted = self._store.processes.wanted()
        snapshot = take_snapshot(self._store, self._names, self._limited, workers)
        plan = self._plan(scene, snapshot, wanted, team.counted_on)
        self.kept = plan.kept
        now = self._run.deadline - scene.remaining_seconds
        end = round(self._seconds_in_all(plan, now, first_release_at), 3)
        spent = sum(count.spent for count in snapshot.counts.values())
        forecast = RunForecast(
            as_of=isoformat(now),
            forecast_seconds=end,
            expected_leftover=plan.expected_leftover + spent,
            workers=plan.workers,
            binds=_binds(plan, team, spent, scene.beyond),
            blamed=() if team.shortage else plan.blamed,
            shortage=team.shortage,
            short_since=isoformat(now - team.short_seconds) if team.shortage else None,
            leftover_by_type={name: of_type.expected_leftover for name, of_type in plan.by_type.items()},
            untaken=scene.beyond,
            probed=_probed(self._types, scene, snapshot),
            course=tuple((round(end - plan.forecast_seconds + at, 1), number) for at, number in plan.rounded_course()),
        )
        self._store.runs.note(self._leader.token, self._run.id, forecast=msgspec.json.encode(forecast).decode())
        self._report(forecast)
        if not team.shortage:
            self._scale(plan.workers, wanted)

    def _plan(self, scene: ReleaseState, snapshot: Snapshot, wanted: int, counted_on: int | None) -> Plan:
        waiting = {name: number + scene.untaken.get(name, 0) for name, number in _waiting(snapshot).items()}
        in_all = {name: scene.begun[name] + scene.counts[name].pending + scene.untaken.get(name, 0) for name in waiting}
        lead = self._lead_seconds(scene)
        windows = {name: replace(scene.windows[name], ages=ages).later(lead) for name, ages in snapshot.ages.items()}
        workload = Workload(
            waiting,
            self._types,
            windows,
            self.measuring.expected,
            RunProgress(
                snapshot.calls,
                {name: max(0, in_all[name] - number) for name, number in waiting.items()},
                scene.lanes or None,  # without lanes, the plan begins when they come up
                self._coming_up_seconds,
                self.kept,
            ),
            self._by_hand,
        )
        settings = self._store.settings
        return plan_run(
            settings,
            workload,
            capacity_of(settings, wanted, self.turnaround.seconds, room=self._room()).exactly(counted_on),
            gone_seconds=self._run.window_seconds - scene.remaining_seconds + lead,
            window_seconds=self._run.window_seconds,
        )

    def _seconds_in_all(self, plan: Plan, now: float, first_release_at: float | None) -> float:
        """Return the forecast in seconds from the run's first release; if no call remains, until its last answer."""
        if first_release_at is None:
            return plan.forecast_seconds
        if plan.forecast_seconds:
            return now - first_release_at + plan.first_call_seconds + plan.forecast_seconds
        answered_us = max(self.measuring.answered_us.values(), default=0)
        return max(0.0, min(now, self._run.moment(answered_us)) - first_release_at) if answered_us else 0.0

    def _lead_seconds(self, scene: ReleaseState) -> float:
        """Return the seconds until a call can be made: 0 if a lane is ready, else until workers have come up."""
        if scene.lanes:
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

    def _room(self) -> int | None:
        """Return how many workers the hosts take, at most one heartbeat interval old."""
        if (now := system_clock.monotonic()) >= self._room_until:
            self._room_now, self._room_until = room_of(self._store), now + HEARTBEAT_SECONDS
        return self._room_now

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
        if self._short >= SHORT_PLANS:
            self._short = 0
            self._store.processes.want(self._leader.token, workers)
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


def _probed(types: Sequence[EventType], scene: ReleaseState, snapshot: Snapshot) -> tuple[str, ...]:
    """Return the suspect endpoints with open events whose rest ends before the deadline: they are probed."""
    views = {
        each.name: scene.windows[each.name]
        for kind in types
        if snapshot.counts[kind.name].open
        for each in kind.endpoints
    }
    return tuple(name for name, view in views.items() if view.suspect and view.rest_seconds < scene.remaining_seconds)


def _waiting(snapshot: Snapshot) -> dict[str, int]:
    """Return by type how many events have no known call; events in flight without one count as waiting."""
    calls = Counter(call.type for call in snapshot.calls)
    return {
        name: count.pending + count.backoff + count.released + max(count.boarding, count.inflight - calls[name])
        for name, count in snapshot.counts.items()
    }
