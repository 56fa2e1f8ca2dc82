"""The input of a plan for the rest of a run."""

from __future__ import annotations

from types import SimpleNamespace

from rlm.core.call import Expected
from rlm.core.endpoint import Endpoint, EventType, Limit, WindowState
from rlm.core.item import Counts
from rlm.ledger.books import Snapshot
from rlm.plan import Plan
from rlm.plan.causes import Look
from rlm.plan.situation import Underway, stuck
from scheduler import forecast
from scheduler.forecast import Forecaster, Team
from tests.each import each

KIND = EventType("T", 1, 1.0, (Endpoint("t", "http://localhost/t", Limit.parse("30/minute"), 10.0),))
WELL = WindowState(30, 0.0, 0.0)
PLAN = Plan(1, 5, 0.0, 1.0, 1.0, 0, {}, (), "nothing binds")


class Planned:
    """A forecaster; the input of each plan is noted."""

    def __init__(self, monkeypatch, taken=9):
        self.told = []
        measuring = SimpleNamespace(expected={}, look=list, answered_us={}, down=set())
        monkeypatch.setattr(forecast, "Measuring", lambda *_: measuring)
        monkeypatch.setattr(forecast, "plan_run", self.plan)
        monkeypatch.setattr(forecast, "room_of", lambda _: None)
        workers = SimpleNamespace(min=0, max=20, threads=5)
        settings = SimpleNamespace(workers=workers, types={"T": KIND}, event_types=[KIND])
        rules = SimpleNamespace(adjust=lambda *_: None)
        store = SimpleNamespace(measures=None, settings=settings, runs=SimpleNamespace(tally=dict), rules=rules)
        self.run = SimpleNamespace(
            id="r",
            window_seconds=180.0,
            deadline=200.0,
            first_release_at=99.0,
            moment=lambda us: us / 1_000_000,
        )
        drain = SimpleNamespace(taken={"T": taken}, left=0, takes=lambda _: 0, untaken=lambda _: {})
        self.forecaster = Forecaster(SimpleNamespace(store=store, token=1), self.run, drain)
        self.forecaster.measure([KIND])

    def plan(self, _settings, workload, *_, **__):
        self.told.append((dict(workload.backlog), dict(workload.progress.begun)))
        return PLAN

    def look(self, counts, *, calls=0):
        look = Look({"T": counts}, {"t": WELL}, 5, 100.0)
        snapshot = Snapshot({"T": counts}, {"t": ()}, (Underway("T", "t", 0.5),) * calls)
        return self.forecaster.look(look, snapshot, Team(1, 1, 5), 1, self.run)[0]


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


@each(
    ("ages", "seconds"),
    [((), None), ((0.5, 1.5), None), ((0.5, 4.0), None), ((4.0,), 10.0), ((4.0, 5.0, 0.5), 10.0)],
)
def test_calls_that_hang_are_expected_to_do_so_until_their_time_out(ages, seconds):
    """Where most under way take twice as long as nearly all should, the next ones will, too: their lanes are lost."""
    calls = [Underway("T", "t", age) for age in ages]

    found = stuck(calls, [KIND], {("T", "t"): Expected(1.0, 1.5)})

    assert [each.seconds for each in found.values()] == ([seconds] if seconds else [])
