"""Limits and pauses by hand: they hold at once, and a limit until the file's value for it changes."""

from __future__ import annotations

import pytest

from rlm.admin.endpoints import endpoint_list
from rlm.admin.planning import types_in_force
from rlm.core.endpoint import Limit
from rlm.ledger.rules import read_rules
from rlm.ledger.store import Store
from tests.store import looks, steps
from tests.store.windows import make_budget, make_endpoint, refusal, set_limits, take
from tests.values import replace

BY = "someone@somewhere"


@pytest.fixture
def endpoint(store):
    """The endpoint of the file: 30 calls a minute."""
    return store.settings.endpoints[steps.ENDPOINT]


def in_force(store):
    """Read the limit of the endpoint like a worker."""
    return store.endpoints()[steps.ENDPOINT].limit.text


def test_one_set_before_the_first_run_holds(store, token, endpoint):
    """The first publication of the file is no change of it, so it does not end what was set by hand before."""
    store.rules.limit(endpoint, "5/minute", BY)
    assert store.rules.changes()[0].before == "30/minute"

    store.rules.publish_limits(token)

    assert in_force(store) == "5/minute"
    assert [one.by for one in store.rules.changes() if one.name == steps.ENDPOINT] == [BY]


def test_a_text_that_others_wrote_does_not_spoil_the_record(store, token, endpoint):
    store.rules.publish_limits(token)
    set_limits(store, (endpoint, '9/\n"minute\\'))

    store.rules.limit(endpoint, "5/minute", BY)

    assert store.rules.changes()[0].before == '9/\n"minute\\'


def renamed(store, **limits):
    """Make a store whose file has other endpoint names, and these limits: `renamed(store, new="9/minute")`."""
    old = [steps.ENDPOINT, steps.OVERFLOW][: len(limits)]
    endpoints = {name: one for name, one in store.settings.endpoints.items() if name not in old}
    for former, (name, limit) in zip(old, limits.items(), strict=True):
        endpoints[name] = replace(store.settings.endpoints[former], name=name, limit=Limit.parse(limit))
    return Store(replace(store.settings, endpoints=endpoints), store.url)


def by_hand(store, limit):
    """Set the limit as `rlm endpoint limit` does."""
    store.rules.limit(store.settings.endpoints[steps.ENDPOINT], limit, "someone@somewhere")


@pytest.mark.parametrize("published", [True, False])
def test_a_limit_set_by_hand_holds_where_the_endpoint_is_renamed(store, token, published):
    """The window is that of the URL, and the file's value for it is the same; the former file goes by it too."""
    if published:
        store.rules.publish_limits(token)
    by_hand(store, "5/minute")

    for name in ("new", "newer"):
        with renamed(store, **{name: "30/minute"}) as after:
            after.rules.publish_limits(token)

            assert after.endpoints()[name].limit.text == "5/minute"
            assert in_force(store) == "5/minute"
            listed = {one.name: one for one in endpoint_list(after)}
            assert (listed[name].limit, listed[name].limit_by) == ("5/minute", "someone@somewhere")
            with looks.nothing_changes(store):
                after.rules.publish_limits(token)

    with renamed(store, newer="9/minute") as changed:
        changed.rules.publish_limits(token)
        assert changed.endpoints()["newer"].limit.text == "9/minute"


def test_a_name_given_to_another_url_gets_the_files_limit(store, token):
    """Its former endpoint is still there, under another name, and has taken the limit along."""
    store.rules.publish_limits(token)
    by_hand(store, "5/minute")
    former = store.settings.endpoints[steps.ENDPOINT]
    other = replace(former, url="http://127.0.0.1:1/other")
    endpoints = {**store.settings.endpoints, "new": replace(former, name="new"), steps.ENDPOINT: other}

    with Store(replace(store.settings, endpoints=endpoints), store.url) as after:
        after.rules.publish_limits(token)

        assert (after.limits()["new"], after.limits()[steps.ENDPOINT]) == ("5/minute", "30/minute")


def test_rules_that_were_read_before_a_limit_was_set_do_not_undo_it(store, token):
    """A conductor plans once a second by what it has read."""
    store.rules.publish_limits(token)
    before = types_in_force(store)
    store.rules.publish(token, before, {})
    by_hand(store, "5/minute")

    store.rules.publish(token, before, {})

    entry = read_rules(store.ask("HGET", store.keys.rules, steps.ENDPOINT))
    assert entry.windows[0].rules[0][0] == 5


def test_a_paused_budget_pauses_all_that_hang_on_it(store):
    """And nobody else."""
    account = make_budget("100/minute")
    one, other = make_endpoint(name="one", budget=account), make_endpoint(name="other")

    store.rules.pause(account, BY, 30)

    assert 28 < refusal(store, one) <= 30
    take(store, other)


def test_types_have_the_limits_in_force_their_budgets_too(store, token):
    """What is published counts, the file's where nothing is."""
    first, *others = store.settings.event_types
    endpoint = replace(store.settings.endpoints[steps.ENDPOINT], budget=make_budget("5/minute"))
    first = replace(first, endpoints=(endpoint, *first.endpoints[1:]))
    endpoints = {**store.settings.endpoints, endpoint.name: endpoint}
    store.settings = replace(store.settings, endpoints=endpoints, event_types=(first, *others))
    assert types_in_force(store)[0] == first

    store.rules.publish_limits(token)
    set_limits(store, (endpoint.budget, "7/minute"), (endpoint, "8/minute"))

    changed, *same = types_in_force(store)[0].endpoints
    assert (changed.budget.limit.text, changed.limit.text) == ("7/minute", "8/minute")
    assert (*same,) == first.endpoints[1:]
