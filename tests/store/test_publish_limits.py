"""Publishing the file's limits: they are in force, unless one set by hand still stands."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlm.core.endpoint import Limit
from rlm.core.errors import FencedError
from rlm.ledger import Store
from tests.store import looks, steps


@pytest.fixture
def with_limits(store):
    """Make a store whose file has these limits: `with_limits(rebalance_api="9/minute")`, the others' as they were."""
    made = []

    def make(**limits):
        endpoints = {
            name: replace(endpoint, limit=Limit.parse(limits.get(name, endpoint.limit.text)))
            for name, endpoint in store.settings.endpoints.items()
        }
        made.append(Store(replace(store.settings, endpoints=endpoints), store.url))
        return made[-1]

    yield make
    for one in made:
        one.close()


def set_by_hand(store, limit):
    """Change an endpoint's limit on the live system."""
    store.client.hset(store.keys.limits, steps.ENDPOINT, limit)


def in_force(store):
    """Read the limit of the endpoint as a worker does."""
    return store.endpoints()[steps.ENDPOINT].limit.text


def test_the_files_limits_are_in_force_once_published(store, token):
    """Every endpoint has its limit from the file, and nothing else is published."""
    assert store.limits() == {}

    store.publish_limits(token)

    assert store.limits() == {name: endpoint.limit.text for name, endpoint in store.settings.endpoints.items()}
    assert store.endpoints() == store.settings.endpoints


def test_publishing_again_changes_nothing(store, token):
    """The same file published twice leaves every key as it is."""
    store.publish_limits(token)

    with looks.nothing_changes(store):
        store.publish_limits(token)


def test_a_changed_file_changes_the_limit(store, token, with_limits):
    """Workers go by the new value as soon as it is published, whatever their own file says."""
    store.publish_limits(token)

    with_limits(rebalance_api="9/minute").publish_limits(token)

    assert in_force(store) == "9/minute"
    assert store.limits()[steps.OVERFLOW] == "30/minute"


def test_a_limit_set_by_hand_holds_until_the_file_changes(store, token, with_limits):
    """Publishing the same file keeps it, also over the restart of a scheduler; another value in the file ends it."""
    store.publish_limits(token)
    set_by_hand(store, "5/minute")

    store.publish_limits(token)
    successor = steps.take_over(store)
    with_limits().publish_limits(successor)
    assert in_force(store) == "5/minute"

    with_limits(rebalance_api="9/minute").publish_limits(successor)
    assert in_force(store) == "9/minute"


def test_a_change_of_another_endpoint_keeps_what_was_set_by_hand(store, token, with_limits):
    """Only the endpoint whose value changes in the file gets that value."""
    store.publish_limits(token)
    set_by_hand(store, "5/minute")

    with_limits(**{steps.OVERFLOW: "9/minute"}).publish_limits(token)

    assert in_force(store) == "5/minute"
    assert store.limits()[steps.OVERFLOW] == "9/minute"


def test_the_files_old_value_published_anew_is_a_change(store, token, with_limits):
    """A file changed there and back is in force each time, and a limit set by hand in between is over."""
    store.publish_limits(token)
    with_limits(rebalance_api="9/minute").publish_limits(token)
    set_by_hand(store, "5/minute")

    store.publish_limits(token)

    assert in_force(store) == "30/minute"


def test_an_endpoint_that_left_the_file_keeps_its_limit(store, token, with_limits):
    """Who still has it in its file, a worker of the older revision, is told the limit of before."""
    store.publish_limits(token)
    smaller = with_limits()
    del smaller.settings.endpoints[steps.ENDPOINT]

    smaller.publish_limits(token)

    assert in_force(store) == "30/minute"


def test_only_the_newest_records_are_kept(store, token, with_limits, monkeypatch):
    """However many limits a file changes at once."""
    monkeypatch.setattr("rlm.ledger.store.MOST_CHANGES", 2)

    with_limits(rebalance_api="9/minute").publish_limits(token)

    assert len(store.changes.newest()) == 2


def test_a_deposed_conductor_publishes_nothing(store, token, with_limits):
    """Under a token that is not the lease's nothing is written."""
    store.publish_limits(token)
    steps.take_over(store)

    with looks.nothing_changes(store), pytest.raises(FencedError, match="publish_limits"):
        with_limits(rebalance_api="9/minute").publish_limits(token)
