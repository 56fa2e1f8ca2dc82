"""The input of a plan is read from the store: the live windows, and the types with the limits in force."""

from __future__ import annotations

import pytest

from rlm.admin.planning import capacity_of, live_windows, room_of, types_in_force
from rlm.core.window import WindowState
from rlm.ledger.processes import Offer, Process, Role, WorkerState
from tests.store import steps
from tests.store.windows import hold, make_budget, make_endpoint, pass_time, rest, set_limits, take
from tests.values import replace


@pytest.fixture
def budget():
    return make_budget("5/minute")


def test_live_windows_are_those_of_endpoints_and_budgets(store, budget):
    """By name: how long ago each call was made that still counts, moved ahead as far as the plan begins later."""
    one, two, alone = (
        make_endpoint("9/minute", name, budget=one) for name, one in (("1", budget), ("2", budget), ("3", None))
    )
    take(store, one, 2)
    take(store, two)
    for limited in (one, two, budget):
        pass_time(store, limited, 20)

    windows = live_windows(store, [one, two, alone], ahead_seconds=3)

    assert set(windows) == {"1", "2", "3", "account"}
    assert windows["1"].ages == pytest.approx((23, 23), abs=2)
    assert windows["account"].ages == pytest.approx((23, 23, 23), abs=2)
    assert windows["3"] == WindowState(free=windows["3"].free)


def test_live_windows_tell_what_is_suspect(store, budget):
    """An endpoint that was rested for what it answered, not one that only waits, nor their budget."""
    failed, waits = (make_endpoint("9/minute", name, budget=budget) for name in ("failed", "waits"))
    rest(store, failed, 2)
    hold(store, waits, 20)

    windows = live_windows(store, [failed, waits], ahead_seconds=3)

    assert {name: window.suspect for name, window in windows.items()} == {
        "failed": True,
        "waits": False,
        "account": False,
    }
    assert windows["failed"].rest_seconds == 0
    assert 15 < windows["waits"].rest_seconds <= 17


def test_live_windows_tell_why_an_endpoint_is_shut(store, budget):
    """A pause and a hold, each with what will be left of it."""
    paused, held = (make_endpoint("9/minute", name, budget=budget) for name in ("paused", "held"))
    store.control.pause(paused, "somebody", 20)
    hold(store, held, 20)

    windows = live_windows(store, [paused, held], ahead_seconds=3)

    assert 15 < windows["paused"].paused_seconds == windows["paused"].rest_seconds <= 17
    assert 15 < windows["held"].held_seconds == windows["held"].rest_seconds <= 17
    assert windows["paused"].held_seconds == windows["held"].paused_seconds == 0


def test_types_in_force_have_the_limits_in_force_their_budgets_too(store, token, budget):
    """What is published counts, the file's where nothing is."""
    endpoint = replace(store.settings.endpoints[steps.ENDPOINT], budget=budget)
    first, *others = store.settings.event_types
    first = replace(first, endpoints=(endpoint, *first.endpoints[1:]), share=0.25)
    store.settings = replace(
        store.settings,
        endpoints={**store.settings.endpoints, endpoint.name: endpoint},
        event_types=(first, *others),
    )
    assert types_in_force(store)[0] == first

    store.publish_limits(token)
    set_limits(store, (budget, "7/minute"), (endpoint, "8/minute"))

    found = types_in_force(store)[0]
    assert (found.share, found.endpoints[0].budget.limit.text, found.endpoints[0].limit.text) == (
        0.25,
        "7/minute",
        "8/minute",
    )
    assert found.endpoints[1:] == first.endpoints[1:]


def test_without_a_supervisor_those_workers_are_planned_with_that_were_started_by_hand(store):
    """Nobody starts more. One that leaves or has another configuration claims nothing; those of a supervisor leave."""
    said = {"revision": store.settings.revision, "state": WorkerState.READY}
    workers = [said, said, said | {"state": WorkerState.STOPPING}, said | {"revision": "x"}, said | {"supervisor": "s"}]
    for number, one in enumerate(workers):
        store.processes.announce(Role.WORKER, Process(f"a:{number}:x", 1, "a", 0.0, **one))

    found = capacity_of(store.settings, room=room_of(store))
    store.processes.announce(Role.SUPERVISOR, Process("a:9:x", 1, "a", 0.0, offer=Offer(7, 0, 20)))

    assert found.max_workers == 2
    assert capacity_of(store.settings, room=room_of(store)).max_workers == 7


def test_no_more_workers_are_planned_than_the_hosts_take(store):
    """One host takes 2 and one 3. What nobody says is no bound."""
    most = store.settings.workers.max
    assert capacity_of(store.settings, room=room_of(store)).max_workers == most
    for name, takes in (("a", 2), ("b", 3)):
        process = Process(f"{name}:1:x", 1, name, 0.0, offer=Offer(takes, 0, most))
        store.processes.announce(Role.SUPERVISOR, process)

    together = capacity_of(store.settings, at_least=9, room=room_of(store))

    assert (together.min_workers, together.max_workers) == (5, 5)
