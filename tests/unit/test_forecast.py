"""When the rest of a run is planned anew, and the input of the plan."""

from __future__ import annotations

from types import SimpleNamespace

from rlm.core.endpoint import Endpoint, EventType, Limit
from rlm.core.trail import Counts
from rlm.core.window import WindowState
from rlm.ledger.reading.books import Snapshot
from rlm.plan import Plan
from rlm.plan.causes import Look
from rlm.plan.situation import Underway
from scheduler import forecast
from scheduler.forecast import Forecaster
from scheduler.team import Team

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
            measures=None,
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


def test_events_without_attempts_left_are_expected_to_be_left_over(monkeypatch):
    """The plan does not know of them: they wait for the next run."""
    found = Planned(monkeypatch).look(Counts(pending=9, spent=4))

    assert found.expected_leftover == 4
    assert "4 events had all attempts" in found.binds
