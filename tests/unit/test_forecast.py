"""When the rest of a run is planned anew, and the input of the plan."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from rlm.core.documents import RunPlan
from rlm.core.endpoint import Endpoint, EventType, Limit
from rlm.core.trail import Counts
from rlm.core.window import WindowState
from rlm.ledger.reading.books import Snapshot
from rlm.plan import Plan, Utilisation
from rlm.plan.choose_releases import ReleaseState
from rlm.plan.situation import Underway
from scheduler import forecast
from scheduler.forecast import REPLAN_SECONDS, Forecaster
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
