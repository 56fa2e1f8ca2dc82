"""The input of a plan is read from the store: the live windows, and the types with the limits in force."""

from __future__ import annotations

import pytest

from rlm.admin.planning import types_in_force
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
