"""The input of a plan for the rest of a run."""

from __future__ import annotations

from types import SimpleNamespace

from rlm.core.call import Expected
from rlm.core.endpoint import Endpoint, EventType, Limit, WindowState
from rlm.core.item import Counts
from rlm.plan import Plan
from rlm.plan.causes import Look
from rlm.plan.situation import Horizon, Situation, Underway, Workload
from scheduler import forecast
from scheduler.forecast import Forecaster, Team
from tests.each import each

KIND = EventType("T", 1, 1.0, (Endpoint("t", "http://localhost/t", Limit.parse("30/minute"), 10.0),))
PLAN = Plan(1, 5, 0.0, 1.0, 1.0, 0, {}, (), "nothing binds")
TEAM = Team(1, 1, 5)


class Planned:
    """A forecaster; the input of each plan is noted."""

    def __init__(self, monkeypatch, taken=9):
        self.told = []
        monkeypatch.setattr(forecast, "plan_run", self.plan)
        monkeypatch.setattr(forecast, "room_of", lambda _: None)
        workers = SimpleNamespace(min=0, max=20, threads=5)
        settings = SimpleNamespace(workers=workers, types={"T": KIND}, event_types=[KIND])
        store = SimpleNamespace(measures=None, settings=settings, runs=SimpleNamespace(tally=dict))
        self.run = SimpleNamespace(id="r", window_seconds=180.0, deadline=200.0, first_release_at=99.0, moment=float)
        drain = SimpleNamespace(taken={"T": taken}, left=0, takes=lambda _: 0, untaken=lambda _: {})
        self.forecaster = Forecaster(SimpleNamespace(store=store, token=1), self.run, drain)

    def plan(self, _settings, workload, *_, **__):
        self.told.append((dict(workload.backlog), dict(workload.begun)))
        return PLAN

    def look(self, counts, *, calls=0):
        look = Look({"T": counts}, {"t": WindowState(30)}, 5, 100.0, calls=(Underway("T", "t", 0.5),) * calls)
        plan = self.forecaster.plan(look, TEAM, 1, self.run)
        return self.forecaster.forecast(plan, look, TEAM, self.run)


def test_what_waits_is_planned_and_calls_under_way_are_begun(monkeypatch):
    """An event in flight whose call is not known waits."""
    planned = Planned(monkeypatch, taken=20)

    planned.look(Counts(pending=9, inflight=3, backoff=2), calls=2)

    assert planned.told == [({"T": 12}, {"T": 8})]


def test_events_without_attempts_left_are_expected_to_be_left_over(monkeypatch):
    """The plan does not know of them: they wait for the next run."""
    found = Planned(monkeypatch).look(Counts(pending=9, spent=4))

    assert found.expected_leftover == 4
    assert "4 events had all attempts" in found.binds


@each(("age", "left"), [(0.25, 0.75), (1.25, 0.25), (2.0, 8.0), (11.0, 0.000001)])
def test_a_call_past_its_expected_end_counts_until_nearly_all_end_and_then_until_its_time_out(age, left):
    """A lane whose call hangs is lost until then."""
    work = Workload({}, [KIND], expected={("T", "t"): Expected(1.0, 1.5)}, underway=[Underway("T", "t", age)])

    (busy,) = Situation.of(work, Horizon(180.0, 135.0, 0.5)).busy

    assert busy.ends_at == round(left * 1_000_000)
