"""Joining a budget: what an endpoint was called before it named the budget counts on it, once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlm.errors import FencedError
from tests.store import looks, steps
from tests.store.windows import make_budget, make_endpoint, pass_time, refusal, stamps, take


@pytest.fixture
def budget():
    """A budget of five slots a minute."""
    return make_budget("5/minute")


def before(name="one"):
    """An endpoint that names no budget yet."""
    return make_endpoint("9/minute", name)


def after(budget, name="one"):
    """The same endpoint, which names it."""
    return make_endpoint("9/minute", name, budget=budget)


def test_an_endpoint_brings_its_calls_along(store, token, budget):
    """They count from when they were made, so no more calls are admitted than are left of the budget's limit."""
    take(store, before(), 2)
    pass_time(store, before(), 30)
    take(store, before(), 2)

    store.windows.join_budgets(token, [after(budget)])

    assert stamps(store, budget) == stamps(store, before())
    take(store, after(budget))
    assert 28 < refusal(store, after(budget)) <= 30.5


def test_the_calls_of_several_are_counted_in_order(store, token, budget):
    """Those of each endpoint that comes to it, and of those that were there."""
    one, two, three = before("one"), before("two"), after(budget, "three")
    store.windows.join_budgets(token, [three])
    for _ in range(2):
        for endpoint in (one, two, three):
            take(store, endpoint)

    store.windows.join_budgets(token, [after(budget, "one"), after(budget, "two"), three])

    merged = sorted((stamp for endpoint in (one, two, three) for stamp in stamps(store, endpoint)), reverse=True)
    assert stamps(store, budget) == merged
    refusal(store, three)


def test_what_no_rule_looks_at_is_left_out(store, token, budget):
    """Behind as many slots as the limit has there may be older ones, which stay where they are."""
    take(store, before("one"), 9)
    take(store, after(make_budget("99/minute"), "three"), 7)
    newest = stamps(store, budget)

    store.windows.join_budgets(token, [after(budget, "one")])

    assert stamps(store, budget) == newest


@pytest.mark.parametrize("again", [1, 3])
def test_calls_are_brought_along_once(store, token, budget, again):
    """Doing it again changes nothing, though the endpoint was called meanwhile."""
    take(store, before(), 2)
    store.windows.join_budgets(token, [after(budget)])
    take(store, after(budget))

    with looks.nothing_changes(store):
        for _ in range(again):
            store.windows.join_budgets(token, [after(budget)])

    assert len(stamps(store, budget)) == 3


def test_twenty_at_once_bring_them_along_once(store, token, budget):
    """Whoever comes first."""
    take(store, before(), 4)

    steps.at_once(*[lambda: store.windows.join_budgets(token, [after(budget)])] * 20)

    assert len(stamps(store, budget)) == 4


def test_an_endpoint_that_leaves_may_come_back(store, token, budget):
    """What it was called in between counts then; what was counted before stays."""
    store.windows.join_budgets(token, [after(budget)])
    take(store, after(budget))
    store.windows.join_budgets(token, [before()])
    assert len(stamps(store, budget)) == 1
    take(store, before(), 3)

    store.windows.join_budgets(token, [after(budget)])

    assert set(stamps(store, budget)) == set(stamps(store, before()))
    refusal(store, after(budget))


def test_without_budgets_nothing_is_written(store, token):
    """Nor for a budget whose endpoints were never called is there a window."""
    with looks.nothing_changes(store):
        store.windows.join_budgets(token, [before("one"), before("two")])
        store.windows.join_budgets(token, [])

    store.windows.join_budgets(token, [after(make_budget("5/minute"))])
    assert not store.client.exists(store.keys.window(make_budget("5/minute").window_id))


def test_slots_brought_along_expire(store, token, budget):
    """Like those that are taken."""
    take(store, before())

    store.windows.join_budgets(token, [after(budget)])

    assert 86000 < store.client.ttl(store.keys.window(budget.window_id)) <= 86400


def test_a_deposed_conductor_brings_nothing_along(store, token, budget):
    """The file of the one that holds the lease counts."""
    take(store, before())
    steps.take_over(store)

    with looks.nothing_changes(store), pytest.raises(FencedError):
        store.windows.join_budgets(token, [after(budget)])


def test_publishing_the_files_limits_does_it(store, token, budget):
    """So before a run calls an endpoint its budget knows what that was called before."""
    name = steps.ENDPOINT
    take(store, store.settings.endpoints[name], 2)
    endpoint = replace(store.settings.endpoints[name], budget=budget)
    store.settings = replace(store.settings, endpoints={**store.settings.endpoints, name: endpoint})

    store.publish_limits(token)

    assert len(stamps(store, budget)) == 2
    assert store.limits()["account"] == "5/minute"
    assert store.endpoints()[name].budget == budget
