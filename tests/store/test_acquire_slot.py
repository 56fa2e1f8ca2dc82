"""Taking a slot: the limit holds exactly, by one clock, whatever happens to limit, clock and memory."""

from __future__ import annotations

import time

import pytest

from rlm.core.endpoint import Budget, Endpoint, Limit, Rule
from rlm.ledger.claims import KEEP_SECONDS, Admitted, Call, LaneId, Refused
from tests.store import looks, steps
from tests.store.windows import (
    health,
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

#: The guard of the built-in settings, seconds.
GUARD = 0.5
#: How exactly a wait is met by a test that looks at it a moment later, seconds.
SOON = 2.0


def test_an_empty_window_admits(store):
    """The first call is admitted at once, stamped with the clock of Redis to the microsecond."""
    before = looks.redis_us(store)
    (slot,) = take(store, make_endpoint())

    assert before <= int(slot.stamp) <= looks.redis_us(store)
    assert not slot.suspect
    assert stamps(store, make_endpoint()) == [int(slot.stamp)]


def test_the_limit_is_reached_and_no_more(store):
    """As many calls as the limit allows are admitted; the next waits for the first of them to be old enough."""
    endpoint = make_endpoint("5 per 60 second")
    first, *_ = take(store, endpoint, 5)

    wait = refusal(store, endpoint)

    age = (looks.redis_us(store) - int(first.stamp)) / 1_000_000
    assert 60 + GUARD - age - SOON < wait <= 60 + GUARD
    assert len(stamps(store, endpoint)) == 5


def test_a_refused_call_is_admitted_after_its_wait(store):
    """Just before the wait is over the call is refused, just after it is admitted, and only that one."""
    endpoint = make_endpoint("2 per 60 second")
    take(store, endpoint)
    pass_time(store, endpoint, 30)
    take(store, endpoint)

    pass_time(store, endpoint, refusal(store, endpoint) - 5)
    assert 5 - SOON < refusal(store, endpoint) <= 5

    pass_time(store, endpoint, 5)
    take(store, endpoint)
    assert 30 - SOON < refusal(store, endpoint) <= 30 + GUARD


@pytest.mark.parametrize("limit", ["5/minute", "9/minute; 5/hour", "5/minute; 9/hour"])
def test_a_race_admits_exactly_the_limit(store, limit):
    """A hundred threads that ask at once for 5 slots get exactly 5, and those stand in the window."""
    endpoint = make_endpoint(limit)

    outcomes = steps.at_once(*[lambda: store.windows.acquire(endpoint)] * 100)

    admitted = [one for one in outcomes if isinstance(one, Admitted)]
    assert len(admitted) == 5
    assert sorted((int(one.stamp) for one in admitted), reverse=True) == stamps(store, endpoint)
    assert all(one.retry_after > 50 for one in outcomes if isinstance(one, Refused))


def test_fractions_of_a_second_and_the_guard_are_kept_to_the_microsecond(make_store):
    """At 20 per 0.3 s with 0.05 s of guard any 21 grants span 0.35 s, and who sleeps for its wait is admitted."""
    store, endpoint = make_store(run={"guard_seconds": 0.05}), make_endpoint("20 per 0.3 second")
    outcome, granted = store.windows.acquire(endpoint), []

    while len(granted) < 61:
        if isinstance(outcome, Refused):
            assert 0 < outcome.retry_after <= 0.35
            time.sleep(outcome.retry_after)
            outcome = store.windows.acquire(endpoint)
            assert isinstance(outcome, Admitted)
        granted.append(int(outcome.stamp))
        outcome = store.windows.acquire(endpoint)

    assert min(later - earlier for earlier, later in zip(granted, granted[20:], strict=False)) >= 350_000


def test_every_rule_must_allow_it(store):
    """With several rules the strictest decides, and the wait is the longest of them."""
    endpoint = make_endpoint("2 per 10 second; 3 per 100 second")
    take(store, endpoint, 2)
    assert 8 < refusal(store, endpoint) <= 10 + GUARD

    pass_time(store, endpoint, 11)
    take(store, endpoint)

    assert 87 < refusal(store, endpoint) <= 100 + GUARD - 11


def test_a_refused_second_rule_wastes_nothing_of_the_first(store):
    """However often a call is refused by the second rule, the first one's slots stay free."""
    endpoint, first_rule = make_endpoint("10 per 10 second; 3 per 100 second"), make_endpoint("10 per 10 second")
    take(store, endpoint, 3)

    for _ in range(20):
        refusal(store, endpoint)

    assert len(stamps(store, endpoint)) == 3
    take(store, first_rule, 7)
    refusal(store, first_rule)


@pytest.mark.parametrize(("used", "left"), [(30, 0), (15, 15), (10, 20)])
def test_a_changed_limit_keeps_the_window(store, used, left):
    """30, then 10, then 30 again within a period: what was used under one counts under all."""
    thirty, ten = make_endpoint("30/minute"), make_endpoint("10/minute")
    take(store, thirty, used)

    refusal(store, ten)

    take(store, thirty, left)
    refusal(store, thirty)
    refusal(store, ten)
    assert len(stamps(store, thirty)) == 30


def test_a_lowered_limit_counts_from_the_newest_calls(store):
    """Under the lower limit a call is admitted once fewer than that many are younger than the period."""
    thirty, ten = make_endpoint("30/minute"), make_endpoint("10/minute")
    take(store, thirty, 6)
    pass_time(store, thirty, 40)
    take(store, thirty, 9)

    assert 18 < refusal(store, ten) <= 20 + GUARD

    pass_time(store, thirty, 21)
    take(store, ten)
    assert 36 < refusal(store, ten) <= 39 + GUARD


def test_a_renamed_endpoint_keeps_its_window(store):
    """The window belongs to the URL: under another name the same calls count."""
    endpoint = make_endpoint("3/minute")
    take(store, endpoint, 3)

    refusal(store, Endpoint("renamed", endpoint.url, endpoint.limit, 10))
    take(store, Endpoint(endpoint.name, f"{endpoint.url}/else", endpoint.limit, 10), 3)


def test_a_rule_longer_than_what_was_kept_rests_the_endpoint(store):
    """Where slots were kept for 60 s a rule over 100 s waits for the 40 s it cannot look back, once."""
    endpoint = make_endpoint("5 per 100 second")
    set_health(store, endpoint, kept_us=60_000_000)

    assert 38 < refusal(store, endpoint) <= 40 + GUARD
    pass_time(store, endpoint, 30)
    assert 8 < refusal(store, endpoint) <= 10 + GUARD
    pass_time(store, endpoint, 11)

    take(store, endpoint, 5)
    assert health(store, endpoint)["kept_us"] == KEEP_SECONDS * 1_000_000


def test_the_calls_before_a_rest_for_a_longer_rule_count_after_it(store):
    """From a rule of a minute to one of 30 days: the endpoint rests for 29, then the calls of the first day count."""
    minute, month = make_endpoint("30/minute"), make_endpoint("30/month")
    take(store, minute, 20)

    day, days = 86400, 30 * 86400
    assert days - day - SOON < refusal(store, month) <= days - day + GUARD
    assert store.client.ttl(store.keys.window(month.window_id)) > days - SOON

    pass_time(store, month, days - day + 1)
    take(store, month, 10)
    assert day - 1 - SOON < refusal(store, month) <= day


def test_how_far_back_slots_are_kept_is_never_forgotten(store):
    """An endpoint that nobody used for long still has to be rested for a longer rule, so its health does not expire."""
    take(store, make_endpoint())

    assert store.client.ttl(store.keys.health(make_endpoint().window_id)) == -1


def test_slots_are_kept_a_day_beyond_any_limit(store):
    """Slots older than a day go, younger ones stay for the log of calls, and the whole list expires by itself."""
    endpoint = make_endpoint("1000/second")
    take(store, endpoint, 3)
    pass_time(store, endpoint, KEEP_SECONDS - 60)
    kept = int(take(store, endpoint)[0].stamp)
    pass_time(store, endpoint, 61)

    newest = int(take(store, endpoint)[0].stamp)

    assert stamps(store, endpoint) == [newest, kept - 61_000_000]
    assert KEEP_SECONDS - SOON < store.client.ttl(store.keys.window(endpoint.window_id)) <= KEEP_SECONDS + 60


@pytest.mark.parametrize("back", [1.0, 3600.0, 10 * 365 * 86400.0])
def test_a_clock_set_back_does_not_shut_the_endpoint(store, back):
    """Slots of the future count as taken just now: none is granted twice, and a period later all are free again."""
    endpoint = make_endpoint("5 per 60 second")
    take(store, endpoint, 5)
    set_clock_back(store, endpoint, back)

    shut = look(store, endpoint)
    wait = refusal(store, endpoint)

    assert shut.free == 0
    assert 60 + GUARD - SOON < wait <= 60 + GUARD
    assert wait <= shut.wait_seconds <= 60 + GUARD
    assert max(stamps(store, endpoint)) <= looks.redis_us(store)

    pass_time(store, endpoint, 61)
    assert look(store, endpoint).free == 5
    take(store, endpoint, 5)


def test_after_a_clock_set_back_the_older_slots_keep_their_age(store):
    """Only stamps ahead of the clock are moved; the list stays in order, so every rule still finds its place in it."""
    endpoint = make_endpoint("4 per 60 second")
    take(store, endpoint, 2)
    pass_time(store, endpoint, 50)
    take(store, endpoint)
    set_clock_back(store, endpoint, 20)

    take(store, endpoint)

    found = stamps(store, endpoint)
    assert found == sorted(found, reverse=True)
    assert 28 < refusal(store, endpoint) <= 30 + GUARD


@pytest.mark.parametrize("rules", [(Rule(0, 60),), (Rule(5, 60), Rule(0, 3600))])
def test_an_amount_of_zero_never_grants(store, rules):
    """Under a rule that allows nothing a call is refused for good: there is no time to come back at."""
    endpoint = Endpoint("api", "http://127.0.0.1:1/api", Limit("none", rules), 10)

    assert store.windows.acquire(endpoint) == Refused(None)
    assert stamps(store, endpoint) == []


def test_what_a_call_is_taken_for_is_noted_with_its_slot(store):
    """The worker's entry of the event names window, stamp and endpoint, in the step that takes the slot."""
    endpoint, call = make_endpoint("2/minute"), Call(LaneId("w1", 1), "i1:REBALANCE_NEEDED", "api")
    store.client.hset(store.keys.calls("w1"), call.event_id, "")
    slot = store.windows.acquire(endpoint, call)

    noted = store.client.hgetall(store.keys.calls("w1"))
    assert noted == {b"i1:REBALANCE_NEEDED": f"1:{endpoint.window_id}|{slot.stamp}|api".encode()}


def test_a_refused_call_is_not_noted(store):
    """A call without a slot leaves the worker's entry as it was."""
    endpoint = make_endpoint("1/minute")
    take(store, endpoint)
    store.client.hset(store.keys.calls("w1"), "i1:T", "")

    assert isinstance(store.windows.acquire(endpoint, Call(LaneId("w1", 1), "i1:T", "api")), Refused)
    assert store.client.hgetall(store.keys.calls("w1")) == {b"i1:T": b""}


@pytest.mark.parametrize("by_another", [False, True])
def test_a_slot_asked_for_before_its_event_was_given_back_is_nobodys(store, token, running, by_another):
    """Redis worked the request off late: no call is noted with the worker, nor with the one that has it now."""
    run, endpoint = running(1), make_endpoint("2/minute")
    claim = steps.claim_next(store, token, run, "w1")
    store.ledger.give_back(claim)
    if by_another:
        steps.claim_next(store, token, run, "w2")

    assert isinstance(store.windows.acquire(endpoint, Call(LaneId("w1", 1), claim.event_id, "api")), Admitted)

    assert looks.calls(store, "w1") == {}
    assert looks.calls(store, "w2") == ({claim.event_id: "1:"} if by_another else {})
    assert looks.counts(store).boarding == by_another
    assert len(stamps(store, endpoint)) == 1, "it counts as used"


def test_a_claimed_event_boards_with_its_slot(store, token, running):
    """An event counts as boarding from its claim until it has a slot, and stays in flight with the same lease."""
    run = running(1)
    claim = steps.claim_next(store, token, run, "w1")
    lease = store.client.zscore(store.keys.inflight(claim.type), claim.event_id)
    assert store.ledger.count([claim.type])[claim.type].boarding == 1

    store.windows.acquire(make_endpoint(), Call(LaneId("w1", 1), claim.event_id, "api"))

    counts = store.ledger.count([claim.type])[claim.type]
    assert (counts.inflight, counts.boarding) == (1, 0)
    assert store.client.zscore(store.keys.inflight(claim.type), claim.event_id) == -lease


def test_a_slot_for_an_event_that_was_taken_back_puts_nothing_in_flight(store):
    """A worker given up for dead may take a slot, but the event is not in flight with it again."""
    store.windows.acquire(make_endpoint(), Call(LaneId("w1", 1), "i1:T", "api"))

    assert not store.client.exists(store.keys.inflight("T"))


def sharing(limit, *limits):
    """A budget and endpoints `0`, `1`, ... that share it."""
    budget = make_budget(limit)
    return budget, *(make_endpoint(own, str(number), budget=budget) for number, own in enumerate(limits))


def test_a_slot_is_taken_in_the_budget_too(store):
    """One stamp, the same in both windows; an endpoint without the budget leaves it alone."""
    budget, one, two = sharing("5/minute", "5/minute", "5/minute")
    take(store, make_endpoint(name="alone"))

    (first,) = take(store, one)
    (second,) = take(store, two)

    assert stamps(store, budget) == [int(second.stamp), int(first.stamp)]
    assert (stamps(store, one), stamps(store, two)) == ([int(first.stamp)], [int(second.stamp)])


def test_a_full_budget_refuses_every_endpoint_that_shares_it(store):
    """However free its own window is; and the refused call takes nothing in it."""
    budget, one, two = sharing("3 per 60 second", "9/minute", "9/minute")
    take(store, one, 2)
    take(store, two)

    for endpoint in (one, two):
        assert 60 + GUARD - SOON < refusal(store, endpoint) <= 60 + GUARD
    assert (len(stamps(store, one)), len(stamps(store, two)), len(stamps(store, budget))) == (2, 1, 3)

    pass_time(store, budget, 60 + GUARD)
    take(store, one, 3)


def test_a_full_endpoint_takes_nothing_of_its_budget(store):
    """However often it is asked, the others have all that is left."""
    budget, one, two = sharing("5/minute", "2/minute", "9/minute")
    take(store, one, 2)

    for _ in range(20):
        refusal(store, one)

    assert len(stamps(store, budget)) == 2
    take(store, two, 3)
    refusal(store, two)


@pytest.mark.parametrize(("own", "shared", "wait"), [(60, 20, 60), (20, 60, 60), (20, 20, 20)])
def test_the_later_of_two_waits_is_told(store, own, shared, wait):
    """Where both windows are full, the call is told when both have a slot."""
    _, endpoint = sharing(f"1 per {shared} second", f"1 per {own} second")
    take(store, endpoint)

    assert wait + GUARD - SOON < refusal(store, endpoint) <= wait + GUARD


def test_all_rules_of_both_hold(store):
    """Of an endpoint and a budget with several rules each, the strictest decides."""
    budget, endpoint = sharing("4 per 10 second; 5 per 100 second", "2 per 10 second; 50 per 100 second")
    take(store, endpoint, 2)
    assert 8 < refusal(store, endpoint) <= 10 + GUARD

    for one in (budget, endpoint):
        pass_time(store, one, 11)
    take(store, endpoint, 2)
    for one in (budget, endpoint):
        pass_time(store, one, 11)
    take(store, endpoint)

    assert 76 < refusal(store, endpoint) <= 100 + GUARD - 22


@pytest.mark.parametrize(
    ("budget_limit", "limits", "each", "in_all"),
    [
        ("7/minute", ["5/minute", "5/minute", "5/minute"], 5, 7),
        ("7/hour", ["5/minute; 6/hour", "9/minute", "9/minute"], 7, 7),
        ("100/minute", ["5/minute", "5/minute", "5/minute"], 5, 15),
        ("1/minute", ["1/minute", "9/minute", "9/minute"], 1, 1),
    ],
)
def test_a_race_for_a_shared_budget_admits_exactly_the_limit(store, budget_limit, limits, each, in_all):
    """Of 99 threads that ask three endpoints at once exactly as many are admitted as the budget and they allow."""
    budget, *endpoints = sharing(budget_limit, *limits)

    outcomes = steps.at_once(*[lambda one=one: store.windows.acquire(one) for _ in range(33) for one in endpoints])

    admitted = sorted((int(one.stamp) for one in outcomes if isinstance(one, Admitted)), reverse=True)
    assert len(admitted) == in_all
    assert stamps(store, budget) == admitted
    assert sorted((stamp for one in endpoints for stamp in stamps(store, one)), reverse=True) == admitted
    assert all(len(stamps(store, one)) <= each for one in endpoints)


def test_a_changed_budget_keeps_its_window(store):
    """What was used under one limit counts under the next, and so it does when its endpoints are renamed."""
    _, endpoint = sharing("30/minute", "99/minute")
    take(store, endpoint, 20)

    refusal(store, make_endpoint("99/minute", "renamed", budget=make_budget("10/minute")))

    take(store, make_endpoint("99/minute", "renamed", budget=make_budget("30/minute")), 10)
    refusal(store, endpoint)


def test_a_budget_of_zero_never_grants(store):
    """A call under a budget that allows nothing is refused for good, and takes nothing."""
    endpoint = make_endpoint(budget=Budget("account", Limit("none", (Rule(0, 60),))))

    assert store.windows.acquire(endpoint) == Refused(None)
    assert stamps(store, endpoint) == []


def test_a_budgets_rule_longer_than_what_was_kept_rests_all_that_share_it(store):
    """Where its slots were kept for 60 s a rule over 100 s waits for the 40 s it cannot look back, once."""
    budget, one, two = sharing("5 per 100 second", "9/minute", "9/minute")
    set_health(store, budget, kept_us=60_000_000)

    for endpoint in (one, two):
        assert 40 - SOON < refusal(store, endpoint) <= 40 + GUARD
        assert look(store, endpoint).free == 9
    pass_time(store, budget, 41)

    take(store, one, 3)
    take(store, two, 2)
    assert health(store, budget)["kept_us"] == KEEP_SECONDS * 1_000_000


def test_a_full_endpoint_does_not_prolong_the_rest_of_its_budget(store):
    """The budget rests as long as its own rule asks for; the others that share it wait no longer than that."""
    budget, one, two = sharing("5 per 100 second", "1 per 90 second", "9/minute")
    take(store, one)
    set_health(store, budget, kept_us=60_000_000)

    assert 90 - SOON < refusal(store, one) <= 90 + GUARD

    assert 40 - SOON < refusal(store, two) <= 40 + GUARD


def test_slots_of_a_budget_are_kept_a_day_beyond_any_limit(store):
    """They go and expire like an endpoint's."""
    budget, endpoint = sharing("1000/second", "1000/second")
    take(store, endpoint, 3)
    for one in (budget, endpoint):
        pass_time(store, one, KEEP_SECONDS + 1)

    newest = int(take(store, endpoint)[0].stamp)

    assert stamps(store, budget) == stamps(store, endpoint) == [newest]
    assert KEEP_SECONDS - SOON < store.client.ttl(store.keys.window(budget.window_id)) <= KEEP_SECONDS + 60


def test_a_clock_set_back_does_not_shut_the_budget(store):
    """Its slots of the future count as taken just now, like an endpoint's."""
    budget, one, two = sharing("2 per 60 second", "9/minute", "9/minute")
    take(store, one, 2)
    set_clock_back(store, budget, 3600)

    assert 60 + GUARD - SOON < refusal(store, two) <= 60 + GUARD
    assert max(stamps(store, budget)) <= looks.redis_us(store)


def test_a_budget_that_is_full_costs_no_probe(store):
    """A rested endpoint's probe is not spent on a call that its budget refuses."""
    budget, one, two = sharing("1 per 60 second", "9/minute", "9/minute")
    take(store, two)
    store.breaker.rest(one, 5)
    pass_time(store, one, 6)

    assert 60 - SOON < refusal(store, one) <= 60 + GUARD
    pass_time(store, budget, 61)

    (probe,) = take(store, one)
    assert probe.suspect
    assert 12 - SOON < look(store, one).wait_seconds <= 12


def test_a_failing_endpoint_does_not_make_its_budget_suspect(store):
    """What hangs on the same budget is none the worse for it."""
    budget, one, two = sharing("9/minute", "9/minute", "9/minute")
    store.breaker.fail(one, first_rest_seconds=5, failing=1)

    (slot,) = take(store, two)

    assert not slot.suspect
    assert set(health(store, budget)) == {"kept_us"}


def test_a_call_is_noted_with_its_budget(store):
    """So that the slot in the budget's window is found too, should the worker die."""
    budget, endpoint = sharing("2/minute", "2/minute")
    store.client.hset(store.keys.calls("w1"), "i1:T", "")
    slot = store.windows.acquire(endpoint, Call(LaneId("w1", 1), "i1:T", "0"))

    noted = store.client.hget(store.keys.calls("w1"), "i1:T").decode()
    assert noted == f"1:{endpoint.window_id}|{slot.stamp}|0|{budget.window_id}"
