"""The windows of endpoints: what a slot costs, and what there is to see of those taken."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rlm.core.errors import StoreUnreachableError
from rlm.ledger.connect import make_client
from rlm.ledger.windows import Windows
from tests.store import looks, steps
from tests.store.windows import make_endpoint, pass_time, refusal, stamps, take

pytestmark = pytest.mark.both_servers

GUARD = 0.5


def ages_of(store, endpoint, now_us):
    """Return how long ago the slots of one endpoint were taken."""
    return store.windows.ages([endpoint], now_us)[endpoint.name]


def test_all_rules_are_taken_in_one_step(store):
    """What the second rule refuses is not taken from the first."""
    endpoint = make_endpoint("10/minute; 2/hour")

    waits = [store.windows.take(endpoint) for _ in range(5)]

    assert waits[:2] == [0, 0]
    assert all(3590 < wait <= 3600 + GUARD for wait in waits[2:])
    assert len(stamps(store, endpoint)) == 2


def test_a_limit_holds_in_a_race(store):
    """A hundred threads that acquire at once at a limit of 5: exactly 5 are admitted, each with its stamp."""
    endpoint = make_endpoint("5/minute; 1000/hour")

    waits = steps.at_once(*[lambda: store.windows.take(endpoint)] * 100)

    assert waits.count(0) == 5


@pytest.mark.parametrize(("cost", "taken"), [(1, 1), (3, 3), (5, 5)])
def test_a_cost_takes_as_many_slots_at_one_moment(store, cost, taken):
    """All slots of a cost have one stamp, and are there or not there together."""
    endpoint = make_endpoint("5/minute")

    assert store.windows.take(endpoint, cost) == 0

    assert len(set(stamps(store, endpoint))) == 1
    assert store.windows.take(endpoint, 6 - cost) > 50
    assert store.windows.take(endpoint, 6) is None  # never
    assert len(stamps(store, endpoint)) == taken


def test_a_longer_rule_waits_until_enough_calls_are_kept_for_it(store):
    """What was called before, and is not kept any more, is not known."""
    take(store, make_endpoint("5 per 10 second"), 2)

    assert 88 < refusal(store, make_endpoint("5 per 100 second")) <= 90


def test_slots_are_counted_by_span(store):
    """At any cost but that of reading them; the guard is not in it."""
    one, two = make_endpoint("9/minute", "one"), make_endpoint("9/minute", "two")
    take(store, one, 3)
    pass_time(store, one, 30)
    take(store, one, 2)

    assert store.windows.count([(one, [10, 60]), (two, [60])]) == [2, 5, 0]
    assert store.windows.used([one, two]) == {"one": [5], "two": [0]}


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
