"""When the rest of a run is planned anew, and the input of the plan."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rlm.core.endpoint import Endpoint, EventType, Limit
from rlm.core.trail import Counts
from rlm.core.window import WindowState
from rlm.ledger.reading.books import Snapshot
from rlm.plan import Plan
from rlm.plan.causes import Look
from rlm.plan.situation import Underway
from scheduler import forecast
from scheduler.forecast import PLANNING_PART, Forecaster
from scheduler.team import Team
from tests.values import replace

KIND = EventType("T", 1, 1.0, (Endpoint("t", "http://localhost/t", Limit.parse("30/minute"), 10.0),))
WELL = WindowState(30, 0.0, 0.0)
TEAM = Team(1, 5)
PLAN = Plan(1, 5, 0.0, 1.0, 1.0, 0, {}, (), "nothing binds")


class Planned:
    """A forecaster whose plans take `cost` seconds by its own clock; the input of each is noted."""

    def __init__(self, monkeypatch, cost=0.0, taken=9):
        self.told, self.wanted = [], []
        self.now, self.cost, self.result = 100.0, cost, PLAN
        monkeypatch.setattr(forecast, "system_clock", SimpleNamespace(monotonic=lambda: self.now))
        self.measuring = SimpleNamespace(expected={}, look=list, answered_us={}, down=set())
        monkeypatch.setattr(forecast, "Measuring", lambda *_: self.measuring)
        monkeypatch.setattr(forecast, "plan_run", self.plan)
        monkeypatch.setattr(forecast, "coming_up_seconds", lambda _: 2.0)
        monkeypatch.setattr(forecast, "room_of", lambda _: None)
        settings = SimpleNamespace(workers=SimpleNamespace(min=0, max=20, threads=5))
        store = SimpleNamespace(
            settings=settings,
            runs=SimpleNamespace(tally=dict, want=lambda _token, workers: self.wanted.append(workers)),
        )
        moment = lambda us: us / 1_000_000  # noqa: E731
        run = SimpleNamespace(id="r", window_seconds=180.0, deadline=200.0, moment=moment)
        drain = SimpleNamespace(taken={"T": taken}, left=0, takes=lambda _: 0, untaken=lambda _: {})
        self.forecaster = Forecaster(store, 1, run, [KIND], drain)

    def plan(self, _settings, workload, capacity, *, gone_seconds, **__):
        suspects = sorted(workload.suspects)
        self.told.append((dict(workload.backlog), dict(workload.progress.begun), suspects, gone_seconds, capacity))
        self.now += self.cost
        return self.result

    def look(self, counts, *, calls=0, view=WELL, lanes=5, team=TEAM, first_call_at=99.0):
        look = Look({"T": counts}, {"t": view}, lanes, 100.0)
        snapshot = Snapshot({"T": counts}, {"t": ()}, (Underway("T", "t", 0.5),) * calls)
        planned = self.forecaster.look(look, snapshot, team, 1, first_call_at)
        return planned and planned[0]


def test_what_waits_is_planned_and_calls_under_way_are_begun(monkeypatch):
    """An event in flight whose call is not known waits."""
    planned = Planned(monkeypatch, taken=20)

    planned.look(Counts(pending=9, inflight=3, backoff=2), calls=2)

    ((backlog, begun, *_),) = planned.told
    assert (backlog, begun) == ({"T": 12}, {"T": 8})


def test_a_plan_that_takes_long_is_made_the_less_often(monkeypatch):
    """Else it would keep the conductor from its other duties; when all is taken it is made at once."""
    planned = Planned(monkeypatch, cost=1.0)

    assert planned.look(Counts(pending=9))
    planned.now += PLANNING_PART - 1.5
    assert planned.look(Counts(pending=9)) is None
    planned.forecaster.plan_soon()
    assert planned.look(Counts(pending=9))
    planned.now += PLANNING_PART
    assert planned.look(Counts(pending=9))


def test_an_endpoint_that_has_answered_nothing_is_not_counted_on(monkeypatch):
    """With a low limit several periods pass until it has failed often enough to rest; all was "on track"."""
    planned = Planned(monkeypatch)
    planned.measuring.down = {"t", "of no type"}

    planned.look(Counts(pending=9))

    assert planned.told[0][2] == ["t"]


@pytest.mark.parametrize(("first_call_at", "gone"), [(None, 0.0), (90.0, 10.0 + 2.0)])
def test_a_forecast_is_of_the_whole_run_as_soon_as_it_has_made_a_call(monkeypatch, first_call_at, gone):
    """What is still to come counts from now, the run from its first call."""
    planned = Planned(monkeypatch)
    planned.result = replace(PLAN, first_call_seconds=2.0, forecast_seconds=30.0)

    found = planned.look(Counts(pending=9), first_call_at=first_call_at)

    assert found.forecast_seconds == 30.0 + gone


def test_events_without_attempts_left_are_expected_to_be_left_over(monkeypatch):
    """The plan does not know of them: they wait for the next run."""
    found = Planned(monkeypatch).look(Counts(pending=9, spent=4))

    assert found.expected_leftover == 4
    assert "4 events had all attempts" in found.binds


@pytest.mark.parametrize(
    ("team", "told", "counted_on"),
    [
        (Team(1, 5), (None, None, ("t",)), 20),
        (Team(2, 10, shortage="no", short_seconds=5.0), ("no", "1970-01-01T00:01:35.000Z", ()), 2),
    ],
)
def test_a_forecast_says_what_is_to_blame_and_since_when_workers_are_missing(monkeypatch, team, told, counted_on):
    """An endpoint is not to blame where nobody would call it. Only workers that are there are counted on."""
    planned = Planned(monkeypatch)
    planned.result = replace(PLAN, blamed=("t",), expected_leftover=9)

    found = planned.look(Counts(pending=9), team=team)

    assert (found.shortage, found.short_since, found.blamed) == told
    assert planned.told[0][-1].max_workers == counted_on


def test_more_workers_are_wanted_where_a_plan_asks_for_them(monkeypatch):
    """Nobody is sent away in a run."""
    planned = Planned(monkeypatch)
    for workers in (1, 3, 0):
        planned.result = replace(PLAN, workers=workers)
        planned.look(Counts(pending=9))

    assert planned.wanted == [3]
