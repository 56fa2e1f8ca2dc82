"""When what remains of a run is planned anew, and what the plan is told of it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rlm.core.counts import Counts
from rlm.core.endpoint import Endpoint, EventType, Limit
from rlm.core.window import WindowState
from rlm.ledger.claims import CallUnderway
from rlm.ledger.reading.books import Snapshot
from rlm.plan import Plan, Utilisation
from rlm.plan.pace import Scene
from scheduler import forecast
from scheduler.forecast import PLANNING_PART, REPLAN_SECONDS, Forecaster
from scheduler.team import Team

KIND = EventType("T", 1, 1.0, (Endpoint("t", "http://localhost/t", Limit.parse("30/minute"), 10.0),))
PLAN = Plan(1, 5, 0.0, 1.0, 1.0, 0, {}, (), Utilisation(0.0, 0.0), "nothing binds")


class Planned:
    """A forecaster whose plans take `cost` seconds by a clock of its own, and what each was told."""

    def __init__(self, monkeypatch, snapshot, cost=0.0):
        self.told = []
        self.published = []
        self.now = 100.0
        self.cost = cost
        monkeypatch.setattr(forecast, "system_clock", SimpleNamespace(monotonic=lambda: self.now, now=lambda: self.now))
        monkeypatch.setattr(forecast, "Measuring", lambda *_: SimpleNamespace(expected=dict, look=lambda: None))
        monkeypatch.setattr(forecast, "take_snapshot", lambda *_: snapshot)
        monkeypatch.setattr(forecast, "plan_run", self.plan)
        monkeypatch.setattr(forecast, "start_seconds", lambda _: 0.0)
        nothing = SimpleNamespace(
            settings=None,
            processes=SimpleNamespace(wanted=lambda: 1),
            runs=SimpleNamespace(advance=lambda *_, forecast: self.published.append(json.loads(forecast))),
            measures=SimpleNamespace(publish=lambda *_: None),
        )
        run = SimpleNamespace(id="r", window_seconds=180.0, deadline=200.0)
        self.forecaster = Forecaster(nothing, SimpleNamespace(token=1), run, [KIND])

    def plan(self, _settings, waiting, *_, progress, **__):
        self.told.append((dict(waiting), dict(progress.begun)))
        self.now += self.cost
        return PLAN

    def look(self, counts, begun, first_release_at=99.0):
        scene = Scene({"T": counts}, {"t": WindowState(30, 0.0, 0.0)}, 5, 100.0, begun={"T": begun})
        self.forecaster.look(scene, ["w"], Team(1, 1, supervised=True), first_release_at)


def snapshot_of(counts, calls=0):
    return Snapshot({"T": counts}, {"t": ()}, (CallUnderway("T", "t", 0.5),) * calls)


def test_an_event_in_flight_without_a_call_known_waits(monkeypatch):
    """Of five in flight two have a call that is known; one has no slot yet, and two are of a worker that vanished."""
    counts = Counts(pending=10, released=3, inflight=5, backoff=2, boarding=1)
    planned = Planned(monkeypatch, snapshot_of(counts, calls=2))

    planned.look(counts, begun=30)

    assert planned.told == [({"T": 10 + 3 + 2 + 3}, {"T": 40 - 18})]


@pytest.mark.parametrize(("first_release_at", "gone"), [(None, 0.0), (90.0, 10.0 + 2.0)])
def test_a_forecast_is_of_the_whole_run_as_soon_as_it_has_released_something(monkeypatch, first_release_at, gone):
    """What is still to come counts from now, the run from its first release; where nothing comes the last word stands.

    Given a plan whose first call is in two seconds, and whose last answer is thirty seconds later.
    """
    planned = Planned(monkeypatch, snapshot_of(Counts(pending=9)))
    plans = iter([replace(PLAN, first_call_seconds=2.0, forecast_seconds=30.0), replace(PLAN, forecast_seconds=0.0)])
    monkeypatch.setattr(forecast, "plan_run", lambda *_, **__: next(plans))

    for _ in range(2):
        planned.look(Counts(pending=9), 0, first_release_at)
        planned.now += 1.0

    assert [one["forecast_seconds"] for one in planned.published] == [30.0 + gone, 30.0 + gone]


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
    # Given a run of whose events one more is expected to be left over with each plan
    caplog.set_level("INFO")
    planned = Planned(monkeypatch, snapshot_of(Counts()))
    plans = iter(range(1000))
    monkeypatch.setattr(forecast, "plan_run", lambda *_, **__: replace(PLAN, expected_leftover=next(plans)))

    # When it is followed for 25 s
    for _ in range(250):
        planned.now += 0.1
        planned.look(Counts(), begun=0)

    # Then its log has three lines of it
    told = [re.search(r"left over (\d+) instead of (\d+)", one.getMessage()).groups() for one in caplog.records]
    assert len(told) == 3
    assert [before for _, before in told[1:]] == [now for now, _ in told[:-1]]
