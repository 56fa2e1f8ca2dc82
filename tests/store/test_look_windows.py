"""Looking at windows: the result agrees with a later request for a slot, and looking takes nothing."""

from __future__ import annotations

import random

import pytest

from rlm.core.window import WindowState
from rlm.ledger.claims import Admitted
from tests.store import looks
from tests.store.windows import (
    look,
    make_budget,
    make_endpoint,
    pass_time,
    refusal,
    set_clock_back,
    set_health,
    stamps,
    take,
)

GUARD = 0.5
#: What may pass between two looks of a test, seconds.
SOON = 2.0


def test_an_empty_window_is_free(store):
    """Before the first call all slots are free, of the strictest rule, and nothing has to be waited for."""
    assert look(store, make_endpoint("5/minute; 3/hour")) == WindowState(3, 0.0, 0.0)


def test_slots_are_counted_one_by_one_until_none_is_free(store):
    """Each call takes one of the free slots; at the last one the wait begins that the next call is told."""
    endpoint = make_endpoint("3 per 60 second")

    for free in (2, 1):
        take(store, endpoint)
        assert look(store, endpoint) == WindowState(free, 0.0, 0.0)

    take(store, endpoint)
    full = look(store, endpoint)
    assert full.free == 0
    assert full.rest_seconds == 0
    assert refusal(store, endpoint) <= full.wait_seconds <= 60 + GUARD


@pytest.mark.parametrize("used", [0, 1, 2, 7, 12, 13, 29, 30])
def test_many_slots_are_counted_by_halving(store, used):
    """Whatever number is younger than the period is found, with older ones behind them."""
    endpoint = make_endpoint("30 per 60 second")
    take(store, endpoint, 5)
    pass_time(store, endpoint, 100)
    take(store, endpoint, used)

    assert look(store, endpoint).free == 30 - used


def test_several_endpoints_are_seen_at_one_instant(store):
    """Each endpoint has its own view under its name, and the time of the look is the clock's of Redis."""
    one, two, three = (
        make_endpoint(limit, name)
        for name, limit in (("one", "2/minute"), ("two", "9/day"), ("3", "1/second; 5/minute"))
    )
    take(store, one, 2)
    take(store, two, 2)
    store.breaker.rest(three, 20)

    before = looks.redis_us(store)
    at, views = store.windows.look([one, two, three])

    assert before <= at <= looks.redis_us(store)
    assert [(name, view.free) for name, view in views.items()] == [("one", 0), ("two", 7), ("3", 0)]
    assert views["one"].wait_seconds > 60 - SOON
    assert views["two"] == WindowState(7, 0.0, 0.0)
    assert 20 - SOON < views["3"].wait_seconds == views["3"].rest_seconds <= 20


def test_no_endpoints_are_looked_at_too(store):
    """Without endpoints there are no views, but a time."""
    at, views = store.windows.look([])

    assert views == {}
    assert at <= looks.redis_us(store)


def test_looking_changes_nothing(store):
    """However often an endpoint is looked at, in whatever state, all keys stay as they were."""
    free, full, rested = (make_endpoint("2/minute", name) for name in ("free", "full", "rested"))
    take(store, full, 2)
    store.breaker.rest(rested, 20)

    with looks.nothing_changes(store):
        for _ in range(3):
            store.windows.look([free, full, rested])


def test_a_window_is_shut_no_longer_than_a_period_after_the_clock_was_set_back(store):
    """Nobody asks a shut window for slots, so slots from the future must grow old by looking alone."""
    endpoint = make_endpoint("2 per 60 second")
    take(store, endpoint, 2)
    set_clock_back(store, endpoint, 3600)

    first = look(store, endpoint)
    pass_time(store, endpoint, 40)
    second = look(store, endpoint)

    assert (first.free, second.free) == (0, 0)
    assert 60 - SOON < first.wait_seconds <= 60 + GUARD
    assert 20 - SOON < second.wait_seconds <= 20 + GUARD
    pass_time(store, endpoint, 21)
    assert look(store, endpoint) == WindowState(2, 0.0, 0.0)


def test_a_longer_rule_rests_the_endpoint_from_the_first_look_on(store):
    """Nobody asks a shut window for slots, so the rest for what was not kept must run out by looking alone."""
    endpoint = make_endpoint("5 per 100 second")
    take(store, make_endpoint("5 per 10 second"), 2)
    set_health(store, endpoint, kept_us=60_000_000)

    first = look(store, endpoint)
    pass_time(store, endpoint, 30)
    second = look(store, endpoint)

    assert first.free == second.free == 0
    assert 40 - SOON < first.rest_seconds <= first.wait_seconds <= 40 + GUARD
    assert 10 - SOON < second.rest_seconds <= second.wait_seconds <= 10 + GUARD
    pass_time(store, endpoint, 11)
    assert look(store, endpoint) == WindowState(3, 0.0, 0.0)
    take(store, endpoint, 3)


def test_the_calls_before_a_longer_rule_are_kept_for_it_from_the_first_look_on(store):
    """The list of slots lives as long as the longer rule looks back, though nothing is added to it meanwhile."""
    take(store, make_endpoint("30/minute"), 3)
    month = make_endpoint("30/month")

    assert look(store, month).wait_seconds > 28 * 86400

    assert store.client.ttl(store.keys.window(month.window_id)) > 30 * 86400 - SOON


LIMITS = (
    "5 per 30 second",
    "3 per 10 second",
    "3 per 10 second; 8 per 60 second",
    "12 per 40 second; 12 per 90 second",
)


class Double:
    """One window under random operations, with a model of its grants: the true moment of each slot in use."""

    def __init__(self, store, seed):
        self.store = store
        self.rng = random.Random(seed)
        self.endpoint = make_endpoint(LIMITS[0], timeout_seconds=3)
        self.granted: dict[str, float] = {}
        #: Nothing happened yet that shuts an endpoint for another reason than its window.
        self.plain = True

    def spans(self):
        return [(rule.amount, (rule.seconds + GUARD) * 1_000_000) for rule in self.endpoint.limit.rules]

    def used(self, now, span):
        return sum(moment > now - span for moment in self.granted.values())

    def slot(self):
        stamp = self.rng.choice([*self.granted, "1"])
        return stamp, Admitted(stamp)

    def acquire(self):
        looked_at, views = self.store.windows.look([self.endpoint])
        view = views[self.endpoint.name]
        if self.plain:
            assert view.free == max(0, min(amount - self.used(looked_at, span) for amount, span in self.spans()))
        outcome = self.store.windows.acquire(self.endpoint)
        if isinstance(outcome, Admitted):
            assert view.free > 0 or view.wait_seconds * 1_000_000 <= int(outcome.stamp) - looked_at + 1
            self.granted[outcome.stamp] = int(outcome.stamp)
            now = int(outcome.stamp)
            assert all(self.used(now, span) <= amount for amount, span in self.spans())
        else:
            assert view.free == 0
            passed = (looks.redis_us(self.store) - looked_at) / 1_000_000
            assert 0 <= view.wait_seconds - outcome.retry_after <= passed

    def acquire_all(self):
        for _ in range(look(self.store, self.endpoint).free):
            self.acquire()

    def give_back(self):
        stamp, slot = self.slot()
        self.store.windows.give_back(self.endpoint, slot)
        self.granted.pop(stamp, None)

    def block(self):
        stamp, slot = self.slot()
        blocked = self.store.windows.block(self.endpoint, slot)
        if blocked.stamp != "0":
            del self.granted[stamp]
            self.granted[blocked.stamp] = int(blocked.stamp)

    def change_limit(self):
        self.endpoint = make_endpoint(self.rng.choice(LIMITS), timeout_seconds=3)

    def pass_time(self):
        seconds = self.rng.choice((1, 3, 10, 31, 100))
        pass_time(self.store, self.endpoint, seconds)
        self.granted = {
            str(int(stamp) - seconds * 1_000_000): moment - seconds * 1_000_000
            for stamp, moment in self.granted.items()
        }

    def set_clock_back(self):
        set_clock_back(self.store, self.endpoint, 7)
        self.granted = {str(int(stamp) + 7_000_000): moment for stamp, moment in self.granted.items()}
        self.plain = False

    def rest(self):
        self.store.breaker.rest(self.endpoint, self.rng.choice((2, 20)))
        self.plain = False

    def fail(self):
        self.store.breaker.fail(self.endpoint, first_rest_seconds=1, failing=3)
        self.plain = False

    def reopen(self):
        self.store.breaker.reopen(self.endpoint)


CALM = ("acquire", "acquire_all", "give_back", "block", "change_limit", "pass_time", "pass_time")
WILD = (*CALM, "set_clock_back", "rest", "fail", "reopen", "reopen")


@pytest.mark.parametrize("doings", [CALM, WILD], ids=["calm", "wild"])
@pytest.mark.parametrize("seed", range(2))
def test_what_is_seen_is_what_asking_finds(store, seed, doings):
    """After any history: a slot seen free is granted, a wait seen is the wait told, and no rule is ever exceeded."""
    double = Double(store, seed)

    for _ in range(60):
        getattr(double, double.rng.choice(doings))()
        double.acquire()

    found = stamps(store, double.endpoint)
    assert found == sorted(found, reverse=True)


def test_a_budget_is_looked_at_beside_its_endpoints(store):
    """It has a view of its own; an endpoint's tells of its own window alone."""
    budget = make_budget("5 per 60 second")
    one, two = (make_endpoint("4/minute", name, budget=budget) for name in ("one", "two"))
    take(store, one, 3)
    take(store, two, 2)

    _, views = store.windows.look([one, two, budget])

    assert {name: view.free for name, view in views.items()} == {"one": 1, "two": 2, "account": 0}
    assert views["one"].wait_seconds == 0
    assert 60 - SOON < views["account"].wait_seconds <= 60 + GUARD
    assert store.windows.look([two])[1] == {"two": WindowState(2, 0.0, 0.0)}


def test_a_longer_rule_rests_the_budget_from_the_first_look_on(store):
    """As it does an endpoint; what shares it is not rested itself."""
    budget = make_budget("5 per 100 second")
    endpoint = make_endpoint("9/minute", budget=budget)
    set_health(store, budget, kept_us=60_000_000)

    _, views = store.windows.look([endpoint, budget])

    assert 40 - SOON < views["account"].rest_seconds <= 40 + GUARD
    assert (views["account"].free, views["account"].suspect) == (0, False)
    assert views["api"] == WindowState(9, 0.0, 0.0)
    pass_time(store, budget, 41)
    take(store, endpoint, 5)


def test_an_endpoint_is_suspect_from_its_rest_until_a_good_answer(store):
    """While it rests, while its probe is out, after a probe that failed; not for failures that rested nothing."""
    endpoint = make_endpoint("9/minute")
    seen = [look(store, endpoint).suspect]

    def and_then(suspect):
        seen.append(look(store, endpoint).suspect)
        assert seen[-1] is suspect, seen

    store.breaker.fail(endpoint, first_rest_seconds=4, failing=2)
    and_then(suspect=False)
    store.breaker.fail(endpoint, first_rest_seconds=4, failing=2)
    and_then(suspect=True)
    pass_time(store, endpoint, 5)
    and_then(suspect=True)
    take(store, endpoint)
    and_then(suspect=True)
    store.breaker.fail(endpoint, first_rest_seconds=4, failing=2)
    pass_time(store, endpoint, 9)
    take(store, endpoint)
    and_then(suspect=True)
    store.breaker.reopen(endpoint)
    and_then(suspect=False)
    store.breaker.rest(endpoint, 5)
    and_then(suspect=True)


@pytest.mark.parametrize("seed", range(2))
def test_what_is_seen_of_both_is_what_asking_finds(store, seed):
    """After any history of two endpoints and their budget: a call is admitted where both have a free slot, else not."""
    rng = random.Random(seed)
    budget = make_budget("4 per 10 second; 9 per 60 second")
    endpoints = [make_endpoint("3 per 10 second", name, budget=budget) for name in ("one", "two")]
    taken = {one.name: [] for one in endpoints}

    for _ in range(60):
        endpoint = rng.choice(endpoints)
        own = taken[endpoint.name]
        match rng.choice(("acquire", "acquire", "acquire", "give_back", "block", "pass_time")):
            case "acquire":
                _, views = store.windows.look([endpoint, budget])
                outcome = store.windows.acquire(endpoint)
                both = min(views[endpoint.name].free, views["account"].free)
                assert isinstance(outcome, Admitted) is (both > 0)
                if both:
                    own.append(int(outcome.stamp))
            case "give_back" if own:
                store.windows.give_back(endpoint, Admitted(str(own.pop(rng.randrange(len(own))))))
            case "block" if own:
                own.append(int(store.windows.block(endpoint, Admitted(str(own.pop(0)))).stamp))
            case "pass_time":
                seconds = rng.choice((1, 4, 11, 31))
                for limited in (*endpoints, budget):
                    pass_time(store, limited, seconds)
                for mine in taken.values():
                    mine[:] = [stamp - seconds * 1_000_000 for stamp in mine]
        assert [stamps(store, one) for one in endpoints] == [sorted(taken[one.name], reverse=True) for one in endpoints]
        assert stamps(store, budget) == sorted((stamp for mine in taken.values() for stamp in mine), reverse=True)
