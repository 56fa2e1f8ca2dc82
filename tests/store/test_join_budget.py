"""Joining a budget: calls to an endpoint from before it named the budget count on the budget, once."""

from __future__ import annotations

import pytest

from tests.store import looks, steps
from tests.store.windows import make_budget, make_endpoint, pass_time, refusal, set_health, stamps, take
from tests.values import replace

#: Seconds.
DAY = 86_400


@pytest.fixture
def budget():
    """A budget of five slots a minute."""
    return make_budget("5/minute")


def before(name="one"):
    """An endpoint that does not name a budget yet."""
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


def test_all_calls_that_are_kept_are_brought_along(store, token):
    """More than the limit of today looks at: it may be a mistake, and the next one looks at more."""
    take(store, make_endpoint("60/day"), 60)
    store.windows.join_budgets(token, [make_endpoint("60/day", budget=make_budget("10/day"))])

    other = make_endpoint("100/day", "other", budget=make_budget("100/day"))

    assert len(stamps(store, other.budget)) == 60
    take(store, other, 40)
    refusal(store, other)


def test_thousands_of_calls_are_brought_along_in_order(store, token, budget):
    """By as many commands as it takes."""
    for name, first in (("one", 0), ("two", 1)):
        store.client.rpush(store.keys.window(before(name).window_id), *range(9000 - first, 0, -2))

    store.windows.join_budgets(token, [after(budget, "one"), after(budget, "two")])

    assert stamps(store, budget) == list(range(9000, 0, -1))


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


def test_an_endpoint_that_leaves_may_come_back(store, token, budget):
    """What it was called in between counts then; what was counted before stays, and counts once."""
    store.windows.join_budgets(token, [after(budget)])
    take(store, after(budget))
    store.windows.join_budgets(token, [before()])
    assert len(stamps(store, budget)) == 1
    take(store, before(), 3)

    store.windows.join_budgets(token, [after(budget)])

    assert stamps(store, budget) == stamps(store, before())
    take(store, after(budget))
    refusal(store, after(budget))


def test_slots_brought_along_are_kept_for_the_budgets_longest_rule(store, token):
    """So that none is forgotten before it looks at it."""
    take(store, before())

    store.windows.join_budgets(token, [after(make_budget("500/month"))])

    assert store.client.ttl(store.keys.window(make_budget("500/month").window_id)) > 29 * DAY


MONTHLY = make_budget("20000/month")


def test_a_rule_that_looks_further_back_than_the_calls_brought_along_rests_the_budget(store, token):
    """As it would the endpoint itself: what it was called more than a day ago is not known."""
    take(store, make_endpoint("1000/day"))

    store.windows.join_budgets(token, [make_endpoint("1000/day", budget=MONTHLY)])

    for endpoint in (make_endpoint("1000/day", budget=MONTHLY), after(MONTHLY, "another")):
        assert 29 * DAY - 60 < refusal(store, endpoint) <= 29 * DAY + 1
    pass_time(store, MONTHLY, 29 * DAY + 1)
    take(store, after(MONTHLY, "another"))


def test_an_endpoint_that_comes_back_soon_rests_nothing(store, token):
    """Its calls are counted up to when it left, and since then they are kept."""
    store.windows.join_budgets(token, [after(MONTHLY)])
    take(store, after(MONTHLY))
    store.windows.join_budgets(token, [before()])
    take(store, before())

    store.windows.join_budgets(token, [after(MONTHLY)])

    take(store, after(MONTHLY))


def test_an_endpoint_that_comes_back_late_rests_the_budget(store, token):
    """Some of its calls of the time between are kept no more; the other budget, which it named meanwhile, has them."""
    store.windows.join_budgets(token, [after(MONTHLY)])
    take(store, after(MONTHLY))
    store.windows.join_budgets(token, [after(make_budget("5/minute", "between"))])
    store.windows.join_budgets(token, [before()])
    left = f"{before().window_id} {MONTHLY.window_id}"
    store.client.hincrby(store.keys.budgets, left, -(DAY + 60) * 1_000_000)
    set_health(store, before(), kept_us=DAY * 1_000_000)

    store.windows.join_budgets(token, [after(MONTHLY)])

    assert refusal(store, after(MONTHLY)) > 28 * DAY


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
