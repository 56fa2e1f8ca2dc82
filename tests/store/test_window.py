"""Our storage under the strategies of `limits`: the stock moving window, and ours, which returns more than yes/no."""

from __future__ import annotations

import time
from types import SimpleNamespace

import limits
import pytest
from limits.strategies import MovingWindowRateLimiter

from rlm.core.errors import StoreUnreachableError
from rlm.ledger.claims import Admitted, Refused
from rlm.ledger.connect import make_client
from rlm.ledger.limiter import EndpointLimiter, Period, WindowStorage, periods
from rlm.ledger.scripts import Script
from rlm.ledger.windows import Windows
from tests.store import looks, steps
from tests.store.windows import make_endpoint, pass_time, refusal, stamps, take
from tests.wait import wait_until

pytestmark = pytest.mark.both_servers

GUARD = 0.5


def ages_of(store, endpoint, now_us):
    """Return how long ago the slots of one endpoint were taken."""
    return store.windows.ages([endpoint], now_us)[endpoint.name]


@pytest.fixture
def storage(store):
    """Our storage over the test's keys."""
    return WindowStorage(store.client, store.keys, GUARD, Script("acquire_slot"))


@pytest.fixture
def stock(storage):
    """The library's own moving-window strategy over our storage."""
    return MovingWindowRateLimiter(storage)


@pytest.fixture
def limiter(storage):
    """Our strategy over our storage."""
    return EndpointLimiter(storage)


def test_the_stock_strategy_holds_its_limit_on_our_storage(stock):
    """`hit` is true as often as the item allows, for each identifier on its own."""
    item = limits.parse("3/minute")

    assert [stock.hit(item, "one") for _ in range(5)] == [True, True, True, False, False]
    assert stock.hit(item, "two")


def test_the_stock_strategy_holds_its_limit_in_a_race(stock):
    """A hundred threads that hit at once at a limit of 5: exactly 5 are let through."""
    item = limits.parse("5/minute")

    assert sum(steps.at_once(*[lambda: stock.hit(item, "endpoint")] * 100)) == 5


def test_the_stock_strategy_takes_costs(stock):
    """A hit that costs more than is left is refused whole and takes nothing."""
    item = limits.parse("5/minute")

    assert stock.hit(item, "endpoint", cost=3)
    assert not stock.hit(item, "endpoint", cost=3)
    assert stock.hit(item, "endpoint", cost=2)
    assert not stock.hit(item, "endpoint", cost=6)


def test_the_stock_strategy_is_stamped_by_redis_and_guarded(stock):
    """A second under the stock strategy is a second and the guard, by the clock of Redis, not the caller's."""
    item, began = limits.parse("1/second"), time.monotonic()
    assert stock.hit(item, "endpoint")

    wait_until(lambda: stock.hit(item, "endpoint"), message="the window is open again")

    assert time.monotonic() - began >= 1 + GUARD


def test_the_stock_strategy_and_ours_share_an_endpoints_window(store, stock):
    """Items that name their window after the endpoint count the same calls, whichever strategy asks."""
    endpoint = make_endpoint("3/minute")
    take(store, endpoint, 2)
    (item,) = periods(endpoint.limit)

    assert stock.hit(item, endpoint.window_id)
    assert not stock.hit(item, endpoint.window_id)
    refusal(store, endpoint)


def test_a_changed_amount_keeps_the_stock_strategys_window(stock):
    """With our items a limit changed there and back lets nothing through twice under the stock strategy either."""
    let_through = [
        sum(stock.hit(Period(amount, 60), "endpoint") for _ in range(number))
        for amount, number in ((30, 15), (10, 5), (30, 40))
    ]

    assert let_through == [15, 0, 15]


def test_ours_takes_all_rules_in_one_step(limiter):
    """`acquire` under several items is one step: what the second rule refuses is not taken from the first."""
    endpoint = make_endpoint("10/minute; 2/hour")

    outcomes = [limiter.acquire([endpoint], call=None, probe_seconds=1) for _ in range(5)]

    assert [isinstance(one, Admitted) for one in outcomes] == [True, True, False, False, False]
    assert all(3590 < one.retry_after <= 3600 + GUARD for one in outcomes[2:])
    assert [limiter.hit(Period(10, 60), endpoint.window_id) for _ in range(10)] == [True] * 8 + [False] * 2


def test_ours_holds_its_limit_in_a_race(limiter):
    """A hundred threads that acquire at once at a limit of 5: exactly 5 are admitted, each with its stamp."""
    endpoint = make_endpoint("5/minute; 1000/hour")

    outcomes = steps.at_once(*[lambda: limiter.acquire([endpoint], call=None, probe_seconds=1)] * 100)

    assert sum(isinstance(one, Admitted) for one in outcomes) == 5
    assert sum(isinstance(one, Refused) for one in outcomes) == 95


@pytest.mark.parametrize(("cost", "taken"), [(1, 1), (3, 3), (5, 5)])
def test_a_cost_takes_as_many_slots_at_one_moment(store, storage, cost, taken):
    """All slots of a cost have one stamp, and are there or not there together."""
    slot = storage.acquire({"w": [(5, 60)]}, cost=cost, call=None, probe_seconds=1)

    assert store.client.lrange(store.keys.window("w"), 0, -1) == [slot.stamp.encode()] * taken
    rest = storage.acquire({"w": [(5, 60)]}, cost=6 - cost, call=None, probe_seconds=1)
    assert rest.retry_after > 50
    assert store.client.llen(store.keys.window("w")) == taken


@pytest.mark.parametrize(("amount", "cost"), [(0, 1), (5, 6)])
def test_a_cost_above_the_amount_is_never_granted(storage, amount, cost):
    """There is no time to come back at for what the limit can never hold."""
    assert storage.acquire({"w": [(amount, 60)]}, cost=cost, call=None, probe_seconds=1) == Refused(None)
    assert not storage.acquire_entry("w", amount, 60, cost)


def test_our_storage_loads_none_of_the_stock_scripts_and_opens_no_connections_of_its_own(store, storage):
    """It works over the store's own pool."""
    assert storage.get_connection().connection_pool is store.client.connection_pool
    assert not hasattr(storage, "lua_moving_window")


def test_without_redis_no_slot_is_taken_for_granted(store, tmp_path):
    """Where Redis cannot be reached acquiring fails; it is neither admitted nor refused."""
    with make_client(f"unix://{tmp_path}/nobody.sock") as client:
        windows = Windows(SimpleNamespace(client=client, keys=store.keys, settings=store.settings))

        with pytest.raises(StoreUnreachableError):
            windows.acquire(make_endpoint())
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


def test_ages_are_those_of_as_many_slots_as_the_limit_has(store):
    """Of more slots than the largest amount, as after a limit was lowered, the newest are enough."""
    take(store, make_endpoint("9/minute"), 9)

    assert len(ages_of(store, make_endpoint("4/minute"), looks.redis_us(store))) == 4


def test_slots_ahead_of_the_clock_have_no_age(store):
    """After the clock was set back a slot's age is 0, never less."""
    endpoint = make_endpoint("3/minute")
    take(store, endpoint)

    assert ages_of(store, endpoint, looks.redis_us(store) - 3600_000_000) == (0.0,)


@pytest.mark.parametrize(("number", "found"), [(1, 1), (2, 2), (9, 3)])
def test_the_newest_stamps_are_read_in_order(store, number, found):
    """As many stamps as asked for, where there are so many, the newest first."""
    endpoint = make_endpoint("9/minute")
    take(store, endpoint, 3)

    assert store.windows.stamps(endpoint, number) == stamps(store, endpoint)[:found]
