"""When the rest of a run is planned anew, and the input of the plan."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest

from rlm.core.documents import RunPlan
from rlm.core.endpoint import Endpoint, EventType, Limit
from rlm.core.expected import MEASURED_TURNS, TURNAROUND_SECONDS, Completed
from rlm.core.trail import Counts
from rlm.core.window import WindowState
from rlm.ledger.reading.books import Snapshot
from rlm.plan import Plan, Utilisation
from rlm.plan.choose_releases import ReleaseState
from rlm.plan.situation import Underway
from scheduler import forecast
from scheduler.forecast import PLANNING_PART, REPLAN_SECONDS, Forecaster
from scheduler.team import Team
from tests.values import replace

KIND = EventType("T", 1, 1.0, (Endpoint("t", "http://localhost/t", Limit.parse("30/minute"), 10.0),))
WELL = WindowState(30, 0.0, 0.0)
PLAN = Plan(1, 5, 0.0, 1.0, 1.0, 0, {}, (), Utilisation(0.0, 0.0), "nothing binds")


class Planned:
    """A forecaster whose plans take `cost` seconds by its own clock, and the input of each."""

    def __init__(self, monkeypatch, snapshot, cost=0.0):
        self.told = []
        self.published = []
        self.leads = []
        self.turnarounds = []
        self.now = 100.0 - REPLAN_SECONDS
        self.cost = cost
        monkeypatch.setattr(forecast, "system_clock", SimpleNamespace(monotonic=lambda: self.now, now=lambda: self.now))
        self.measuring = SimpleNamespace(expected=dict, look=list, answered_us={}, down=set())
        monkeypatch.setattr(forecast, "Measuring", lambda *_: self.measuring)
        self.kept = []
        monkeypatch.setattr(forecast, "take_snapshot", lambda *_: snapshot)
        monkeypatch.setattr(forecast, "plan_run", self.plan)
        monkeypatch.setattr(forecast, "coming_up_seconds", lambda _: 0.0)
        nothing = SimpleNamespace(
            settings=SimpleNamespace(
                workers=SimpleNamespace(min=0, max=20, threads=5), endpoints={one.name: one for one in KIND.endpoints}
            ),
            processes=SimpleNamespace(wanted=lambda: 1, alive=lambda _role: []),
            hosts=SimpleNamespace(idle=dict),
            runs=SimpleNamespace(note=lambda *_, forecast: self.published.append(json.loads(forecast))),
            measures=SimpleNamespace(publish=lambda *_: None),
        )
        run = SimpleNamespace(
            id="r",
            plan=RunPlan(kept={"T": 2}),
            started_at=20.0,
            window_seconds=180.0,
            deadline=200.0,
            moment=lambda us: us / 1_000_000,
        )
        self.forecaster = Forecaster(nothing, SimpleNamespace(token=1), run, [KIND])
        self.now = 100.0

    def plan(self, _settings, workload, capacity, *, gone_seconds, **__):
        self.told.append((dict(workload.backlog), dict(workload.progress.begun)))
        limit = workload.types[0].endpoints[0].limit.text
        self.counted_on = {name: (one.suspect, limit) for name, one in workload.windows.items()}
        self.kept.append(dict(workload.progress.kept))
        self.turnarounds.append(capacity.turnaround_seconds)
        self.leads.append(gone_seconds - (180.0 - 100.0))
        self.now += self.cost
        return PLAN

    def look(self, counts, begun, first_release_at=99.0, lanes=5, view=WELL):
        scene = ReleaseState({"T": counts}, {"t": view}, lanes, 100.0, begun={"T": begun})
        self.forecaster.look(scene, ["w"], Team(1, supervised=True), first_release_at)


def snapshot_of(counts, calls=0):
    return Snapshot({"T": counts}, {"t": ()}, (Underway("T", "t", 0.5),) * calls)


def test_the_plan_that_a_run_began_with_stands_for_a_moment(monkeypatch):
    """Lanes begin meanwhile, which need the processors."""
    planned = Planned(monkeypatch, snapshot_of(Counts(pending=9)))

    planned.now -= 0.01
    planned.look(Counts(pending=9), 0)
    assert planned.published == []

    planned.now += 0.01
    planned.look(Counts(pending=9), 0)
    assert len(planned.published) == 1


def test_lanes_are_kept_as_the_newest_plan_says(monkeypatch):
    """At first as the plan that the run began with; each plan knows what is kept so far."""
    planned = Planned(monkeypatch, snapshot_of(Counts(pending=9)))
    assert planned.forecaster.kept == {"T": 2}

    planned.look(Counts(pending=9), 0)
    assert planned.forecaster.kept == PLAN.kept == {}

    planned.now += 1.0
    planned.look(Counts(pending=9), 0)
    assert planned.kept == [{"T": 2}, {}]


def test_an_endpoint_that_has_answered_nothing_is_not_counted_on(monkeypatch):
    """With a low limit several periods pass until it has failed often enough to rest; all was "on track"."""
    planned = Planned(monkeypatch, snapshot_of(Counts(pending=9)))
    planned.measuring.down = {"t", "of no type"}

    planned.look(Counts(pending=9), 0)

    assert [suspect for suspect, _ in planned.counted_on.values()] == [True]
    assert planned.published[0]["probed"] == ["t"]


def test_an_event_in_flight_without_a_call_known_waits(monkeypatch):
    """Of five in flight two have a call that is known; one has no slot yet, and two are of a worker that vanished."""
    counts = Counts(pending=10, released=3, inflight=5, backoff=2, boarding=1)
    planned = Planned(monkeypatch, snapshot_of(counts, calls=2))

    planned.look(counts, begun=30)

    assert planned.told == [({"T": 10 + 3 + 2 + 3}, {"T": 40 - 18})]


@pytest.mark.parametrize(("first_release_at", "gone"), [(None, 0.0), (90.0, 10.0 + 2.0)])
def test_a_forecast_is_of_the_whole_run_as_soon_as_it_has_released_something(monkeypatch, first_release_at, gone):
    """What is still to come counts from now, the run from its first release.

    Given a plan whose first call is in two seconds, and whose last answer is thirty seconds later.
    """
    planned = Planned(monkeypatch, snapshot_of(Counts(pending=9)))
    monkeypatch.setattr(
        forecast, "plan_run", lambda *_, **__: replace(PLAN, first_call_seconds=2.0, forecast_seconds=30.0)
    )

    planned.look(Counts(pending=9), 0, first_release_at)

    assert [one["forecast_seconds"] for one in planned.published] == [30.0 + gone]


@pytest.mark.parametrize(("answered_us", "end"), [(0, 0.0), (95_000_000, 5.0), (3_600_000_000, 10.0), (1, 0.0)])
def test_where_nothing_more_comes_a_run_ends_with_its_last_answer(monkeypatch, answered_us, end):
    """Not where the last plan saw it that still expected some; nor later than now, or before it began."""
    planned = Planned(monkeypatch, snapshot_of(Counts(pending=9)))
    plans = iter([replace(PLAN, forecast_seconds=30.0), replace(PLAN, forecast_seconds=0.0, expected_leftover=9)])
    monkeypatch.setattr(forecast, "plan_run", lambda *_, **__: next(plans))

    planned.look(Counts(pending=9), 0, first_release_at=90.0)
    planned.now += 1.0
    planned.measuring.answered_us = {"t": answered_us} if answered_us else {}
    planned.look(Counts(pending=9), 0, first_release_at=90.0)

    assert planned.published[1]["forecast_seconds"] == end


def test_workers_that_are_gone_in_mid_run_are_back_no_sooner_than_workers_come_up(monkeypatch):
    """What is still to come begins when there is a lane again, not at once."""
    planned = Planned(monkeypatch, snapshot_of(Counts(pending=9)))
    monkeypatch.setattr(forecast, "coming_up_seconds", lambda _: 1.5)

    for lanes in (0, 5, 0, 0, 0, 0):
        planned.look(Counts(pending=9), 0, lanes=lanes)
        planned.now += 1.0

    assert planned.leads == [1.5, 0.0, 1.5, 0.5, 0.0, 0.0]


def test_what_a_lane_needs_between_two_calls_is_planned_with_as_it_was_measured(monkeypatch):
    """From when events wait for nothing but a lane: the first look, at 100."""
    planned = Planned(monkeypatch, snapshot_of(Counts(pending=9)))
    planned.look(Counts(pending=9), 0)
    planned.now += 5.0
    calls = [Completed("T", "t", 1000.0, at_us=104_000_000, idle_ms=70.0)] * MEASURED_TURNS
    planned.measuring.look = lambda: calls

    planned.look(Counts(pending=9), 0)

    assert planned.turnarounds == [TURNAROUND_SECONDS, pytest.approx(0.07)]


@pytest.mark.parametrize(
    ("counts", "view", "probed"),
    [
        (Counts(pending=9), WindowState(0, 5.0, 5.0, suspect=True), ["t"]),
        (Counts(inflight=1), WindowState(0, 5.0, 0.0, suspect=True), ["t"]),
        (Counts(pending=9), WindowState(0, 500.0, 500.0, suspect=True), []),  # until after the deadline
        (Counts(spent=9), WindowState(0, 5.0, 5.0, suspect=True), []),
        (Counts(pending=9), WindowState(30, 0.0, 0.0), []),
    ],
)
def test_a_forecast_names_what_is_probed_though_it_is_not_counted_on(monkeypatch, counts, view, probed):
    """Each probe settles an event that is counted as left over, or takes until its time-out: the run goes on for it."""
    planned = Planned(monkeypatch, snapshot_of(counts))

    planned.forecaster.look(
        ReleaseState({"T": counts}, {"t": view}, 5, 100.0, begun={"T": 0}), ["w"], Team(1, supervised=True), 99.0
    )

    assert planned.published[-1]["probed"] == probed


def test_events_without_attempts_left_are_expected_to_be_left_over(monkeypatch):
    """The plan does not know of them: they wait for the next run."""
    planned = Planned(monkeypatch, snapshot_of(Counts(pending=9, spent=4)))

    planned.look(Counts(pending=9, spent=4), 0)

    assert planned.published[-1]["expected_leftover"] == PLAN.expected_leftover + 4


@pytest.mark.parametrize(("cost", "gap"), [(0.001, REPLAN_SECONDS), (0.1, 0.1 * PLANNING_PART)])
def test_plans_that_are_costly_are_made_less_often(monkeypatch, cost, gap):
    """A plan is made every quarter of a second, but no more often than leaves nine parts in ten to what releases."""
    planned = Planned(monkeypatch, snapshot_of(Counts()), cost)

    for _ in range(1000):
        planned.now += 0.01
        planned.look(Counts(), begun=0)

    assert len(planned.told) == pytest.approx((planned.now - 100.0) / gap, rel=0.1)


def test_a_forecast_that_changes_all_the_time_is_told_of_now_and_then(monkeypatch, caplog):
    """Each time with what was told before, so that nothing is missed."""
    # A run of whose events one more is expected to be left over with each plan
    caplog.set_level("INFO")
    planned = Planned(monkeypatch, snapshot_of(Counts()))
    plans = iter(range(1000))
    monkeypatch.setattr(forecast, "plan_run", lambda *_, **__: replace(PLAN, expected_leftover=next(plans)))

    for _ in range(250):
        planned.now += 0.1
        planned.look(Counts(), begun=0)

    told = [re.search(r"left over (\d+) instead of (\d+)", one.getMessage()).groups() for one in caplog.records]
    assert len(told) == 3
    assert [before for _, before in told[1:]] == [now for now, _ in told[:-1]]


@pytest.mark.parametrize(
    ("team", "told"),
    [
        (Team(1, supervised=True), ("", None, ["t"])),
        (Team(0, supervised=False, shortage="no", short_seconds=5.0), ("no", "1970-01-01T00:01:35.000Z", [])),
    ],
)
def test_a_forecast_says_what_is_to_blame_and_since_when_workers_are_missing(monkeypatch, team, told):
    """An endpoint is not to blame where nobody would call it."""
    planned = Planned(monkeypatch, snapshot_of(Counts(pending=9)))
    monkeypatch.setattr(forecast, "plan_run", lambda *_, **__: replace(PLAN, blamed=("t",), expected_leftover=9))
    planned.now += forecast.REPLAN_SECONDS

    planned.forecaster.look(
        ReleaseState({"T": Counts(pending=9)}, {"t": WELL}, 5, 100.0, begun={"T": 0}), [], team, 99.0
    )

    (found,) = planned.published
    assert (found["shortage"], found["short_since"], found["blamed"]) == told
