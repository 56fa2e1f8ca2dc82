"""The windows of endpoints: what a slot costs, and what there is to see of those taken."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rlm.core.errors import StoreUnreachableError
from rlm.ledger.connect import make_client
from rlm.ledger.windows import Windows
from tests.store import looks
from tests.store.windows import make_endpoint, pass_time, refusal, stamps, take

pytestmark = pytest.mark.both_servers

GUARD = 0.5


def ages_of(store, endpoint, now_us):
    """Return how long ago the slots of one endpoint were taken."""
    return store.windows.ages([endpoint], now_us)[endpoint.name]


@pytest.mark.parametrize(("cost", "taken"), [(1, 1), (3, 3), (5, 5)])
def test_a_cost_takes_as_many_slots_at_one_moment(store, cost, taken):
    """All slots of a cost have one stamp, and are there or not there together."""
    endpoint = make_endpoint("5/minute")

    assert store.windows.take(endpoint, cost) == 0

    assert len(set(stamps(store, endpoint))) == 1
    assert store.windows.take(endpoint, 6 - cost) > 50
    assert store.windows.take(endpoint, 6) is None  # never
    assert len(stamps(store, endpoint)) == taken


def test_without_redis_no_slot_is_taken_for_granted(store, tmp_path):
    """Where Redis cannot be reached acquiring fails; it is neither admitted nor refused."""
    with make_client(f"unix://{tmp_path}/nobody.sock") as client:
        windows = Windows(SimpleNamespace(client=client, keys=store.keys, settings=store.settings))

        with pytest.raises(StoreUnreachableError):
            windows.take(make_endpoint())
        with pytest.raises(StoreUnreachableError):
            windows.look([make_endpoint()])


def test_a_slot_that_was_forgotten_with_its_script_is_taken_after_a_restart(store):
    """A server that lost its scripts, not its data, goes on where it was."""
    endpoint = make_endpoint("3/minute")
    take(store, endpoint, 2)
    store.client.script_flush()

    take(store, endpoint)
    refusal(store, endpoint)


def test_the_ages_of_the_slots_that_count(store):
    """The planner sees how long ago each slot was taken that still counts for a rule, the newest first, no others."""
    endpoint = make_endpoint("3 per 10 second; 5 per 60 second")
    take(store, endpoint)
    pass_time(store, endpoint, 61)
    take(store, endpoint)
    pass_time(store, endpoint, 20)
    take(store, endpoint, 2)

    ages = ages_of(store, endpoint, looks.redis_us(store))

    assert ages == pytest.approx((0, 0, 20), abs=2)
    assert ages == tuple(sorted(ages))


@pytest.mark.parametrize(("number", "found"), [(1, 1), (2, 2), (9, 3)])
def test_the_newest_stamps_are_read_in_order(store, number, found):
    """As many stamps as asked for, where there are so many, the newest first."""
    endpoint = make_endpoint("9/minute")
    take(store, endpoint, 3)

    assert store.windows.stamps(endpoint, number) == stamps(store, endpoint)[:found]
