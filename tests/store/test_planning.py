"""The input of a plan is read from the store: the live windows, and the types with the limits in force."""

from __future__ import annotations

import pytest

from rlm.admin.planning import capacity_of, room_of, types_in_force
from rlm.ledger.processes import Offer, Process, Role
from tests.store import steps
from tests.store.windows import make_budget, set_limits
from tests.values import replace


@pytest.fixture
def budget():
    return make_budget("5/minute")


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


def test_no_more_workers_are_planned_than_the_hosts_take(store):
    """One host takes 2 and one 3. What nobody says is no bound."""
    most = store.settings.workers.max
    assert capacity_of(store.settings, room=room_of(store)).max_workers == most
    for name, takes in (("a", 2), ("b", 3)):
        process = Process(f"{name}:1:x", 1, name, 0.0, offer=Offer(takes, 0, most))
        store.processes.announce(Role.SUPERVISOR, process)

    together = capacity_of(store.settings, at_least=9, room=room_of(store))

    assert (together.min_workers, together.max_workers) == (5, 5)
