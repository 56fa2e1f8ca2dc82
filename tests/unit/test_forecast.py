"""The input of a plan for the rest of a run."""

from __future__ import annotations

from types import SimpleNamespace

from rlm.core.call import Expected
from rlm.core.documents import Plan
from rlm.core.endpoint import Endpoint, EventType, Limit, WindowState
from rlm.core.item import Counts
from rlm.plan.causes import Look
from rlm.plan.situation import Horizon, Situation, Underway, Workload
from scheduler import conductor
from tests.each import each

KIND = EventType("T", 1, 1.0, (Endpoint("t", "http://localhost/t", Limit.parse("30/minute"), 10.0),), share=0.5)
PLAN = Plan(workers=1, threads=5, forecast_seconds=1.0, lower_bound_seconds=1.0, binds="nothing binds")


class Planned:
    """A conductor; the input of each plan is noted."""

    def __init__(self, monkeypatch):
        self.told = []
        monkeypatch.setattr(conductor, "plan_run", self.plan)
        monkeypatch.setattr(conductor, "room_of", lambda _: None)
        settings = SimpleNamespace(workers=SimpleNamespace(min=0, max=20, threads=5))
        store = SimpleNamespace(settings=settings, runs=SimpleNamespace(tally=lambda: {"begun:T": 6}))
        run = SimpleNamespace(window_seconds=180.0, deadline=200.0, first_release_at=99.0)
        drain = SimpleNamespace(left=0, takes=lambda _: 0, untaken=lambda _: {})
        monkeypatch.setattr(conductor, "Drain", lambda *_: drain)
        self.conductor = conductor.Conductor(SimpleNamespace(store=store, token=1), run)

    def plan(self, _settings, workload, *_, **__):
        self.told.append((dict(workload.backlog), dict(workload.begun)))
        return PLAN

    def look(self, counts, *, calls=0):
        under_way = (Underway("T", "t", 0.5),) * calls
        look = Look({"T": counts}, {"t": WindowState(30)}, 5, 100.0, types=[KIND], calls=under_way)
        return self.conductor.forecast(look, self.conductor.plan_rest(look, 1))


def test_what_waits_is_planned_and_calls_under_way_are_begun(monkeypatch):
    """An event in flight whose call is not known waits."""
    planned = Planned(monkeypatch)

    planned.look(Counts(pending=9, inflight=3, backoff=2), calls=2)

    assert planned.told == [({"T": 12}, {"T": 6})]


def test_events_without_attempts_left_are_expected_to_be_left_over(monkeypatch):
    """The plan does not know of them: they wait for the next run."""
    found = Planned(monkeypatch).look(Counts(pending=9, spent=4))

    assert found.expected_leftover == 4
    assert "4 events had all attempts" in found.binds


@each(("age", "left"), [(0.25, 0.75), (1.25, 0.25), (2.0, 8.0), (11.0, 0.000001)])
def test_a_call_past_its_expected_end_counts_until_nearly_all_end_and_then_until_its_time_out(age, left):
    """A lane whose call hangs is lost until then."""
    work = Workload({}, [KIND], expected={("T", "t"): Expected(1.0, 1.5)}, underway=[Underway("T", "t", age)])

    assert Situation.of(work, Horizon(180.0, 135.0, 0.5)).busy == (round(left * 1_000_000),)
