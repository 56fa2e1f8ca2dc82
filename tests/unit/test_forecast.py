"""The input of a plan for the rest of a run."""

from __future__ import annotations

from types import SimpleNamespace

from rlm.admin.words import planned
from rlm.core.call import Expected
from rlm.core.documents import Plan
from rlm.core.endpoint import Endpoint, EventType, Limit, WindowState
from rlm.core.item import Counts
from rlm.plan import forecast
from rlm.plan.causes import Look
from rlm.plan.situation import Horizon, Situation, Underway, Workload
from scheduler import conductor
from tests.each import each

KIND = EventType("T", 1, 1.0, (Endpoint("t", "http://localhost/t", Limit.parse("30/minute"), 10.0),), share=0.5)
PLAN = Plan(workers=1, threads=5, forecast_seconds=1.0, lower_bound_seconds=1.0, binds="nothing binds")


def test_what_waits_is_planned_and_calls_under_way_are_begun(monkeypatch):
    """An event in flight whose call is not known waits."""
    planned_for = []
    monkeypatch.setattr(conductor, "plan_run", lambda _, workload, *_rest: planned_for.append(workload))
    drain = SimpleNamespace(left=0, takes=lambda _: 0, untaken=lambda _: {})
    monkeypatch.setattr(conductor, "Drain", lambda *_: drain)
    settings = SimpleNamespace(workers=SimpleNamespace(min=0, max=20, threads=5))
    store = SimpleNamespace(settings=settings, runs=SimpleNamespace(tally=lambda: {"begun:T": 6}))
    office, run = SimpleNamespace(store=store, token=1), SimpleNamespace(window_seconds=180.0)
    counts, under_way = Counts(pending=9, inflight=3, backing_off=2), (Underway("T", "t", 0.5),) * 2

    look = Look({"T": counts}, {"t": WindowState(30)}, 5, 100.0, types=[KIND], calls=under_way)
    conductor.Conductor(office, run).plan_rest(look, 1)

    assert [(workload.backlog, workload.begun) for workload in planned_for] == [({"T": 12}, {"T": 6})]


def test_events_without_attempts_left_are_expected_to_be_left_over():
    """The plan does not know of them: they wait for the next run."""
    run = SimpleNamespace(deadline=200.0, first_release_at=None)

    found = forecast(run, Look({"T": Counts(pending=9, spent=4)}, {}, 5, 100.0), PLAN, answered_us=0, beyond=0)

    assert "4 left over" in planned(found)
    assert "4 events had all attempts" in found.binds


@each(("age", "left"), [(0.25, 0.75), (1.25, 0.25), (2.0, 8.0), (11.0, 0.000001)])
def test_a_call_past_its_expected_end_counts_until_nearly_all_end_and_then_until_its_time_out(age, left):
    """A lane whose call hangs is lost until then."""
    work = Workload({}, [KIND], expected={("T", "t"): Expected(1.0, 1.5)}, underway=[Underway("T", "t", age)])

    assert Situation.of(work, Horizon(180.0, 135.0, 0.5)).busy == (round(left * 1_000_000),)
