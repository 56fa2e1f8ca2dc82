"""Resting an endpoint: for all workers at once, the longest rest applies, then one probe at a time."""

from __future__ import annotations

import pytest

from rlm.ledger.claims import Admitted, Refused
from tests.store import steps
from tests.store.windows import look, make_endpoint, pass_time, refusal, set_health, take

#: How exactly a rest is met by a test that looks at it a moment later, seconds.
SOON = 2.0


@pytest.fixture
def endpoint():
    """An endpoint whose limit is never met here, with a period of a minute and calls of at most 10 s."""
    return make_endpoint("100 per 60 second", timeout_seconds=10)


def fail(store, endpoint, failing=3):
    """Report a failure; the endpoint rests from the third in a row on, at first for 4 s."""
    return store.breaker.fail(endpoint, first_rest_seconds=4, failing=failing).rest_seconds


def test_a_resting_endpoint_refuses_everybody_until_its_rest_is_over(store, make_store, endpoint):
    """After a rest for 30 s nobody is admitted, in any process, and everybody is told how much is left of it."""
    assert store.breaker.rest(endpoint, 30) == pytest.approx(30, abs=0.001)

    for one in (store, make_store()):
        assert 30 - SOON < refusal(one, endpoint) <= 30
        assert look(one, endpoint).free == 0
        assert 30 - SOON < look(one, endpoint).rest_seconds <= 30

    pass_time(store, endpoint, 31)
    assert look(store, endpoint).rest_seconds == 0
    take(store, endpoint)


@pytest.mark.parametrize(("first", "second"), [(30, 5), (5, 30)])
def test_the_longest_rest_stands(store, endpoint, first, second):
    """Of two rests that overlap, in either order, the one that ends last counts, and each caller learns that."""
    store.breaker.rest(endpoint, first)

    assert 30 - SOON < store.breaker.rest(endpoint, second) <= 30

    assert 30 - SOON < refusal(store, endpoint) <= 30


def test_after_a_rest_exactly_one_probe_is_admitted(store, endpoint):
    """Of many that ask once the rest is over one is admitted, marked as suspect; the others wait for its answer."""
    store.breaker.rest(endpoint, 30)
    pass_time(store, endpoint, 31)
    assert look(store, endpoint).free == 1

    outcomes = steps.at_once(*[lambda: store.windows.acquire(endpoint)] * 20)

    (probe,) = [one for one in outcomes if isinstance(one, Admitted)]
    assert probe.suspect
    assert all(12 - SOON < one.retry_after <= 12 for one in outcomes if isinstance(one, Refused))
    assert look(store, endpoint).free == 0


def test_a_probe_that_is_never_reported_is_followed_by_another(store, endpoint):
    """A probe may take its time-out and two seconds; then one more is admitted, and so on."""
    store.breaker.rest(endpoint, 30)
    pass_time(store, endpoint, 31)

    for _ in range(3):
        take(store, endpoint)
        refusal(store, endpoint)
        pass_time(store, endpoint, 12)


def test_a_good_probe_opens_the_endpoint(store, endpoint):
    """Once the probe is reported to have been answered well, everybody is admitted again, and nobody is suspect."""
    store.breaker.rest(endpoint, 30)
    pass_time(store, endpoint, 31)
    take(store, endpoint)

    store.breaker.reopen(endpoint)

    assert not any(slot.suspect for slot in take(store, endpoint, 10))


def test_a_probe_that_fails_rests_the_endpoint_again(store, endpoint):
    """Be it the first failure, after a throttle: as at first, not for as long as a probe might have taken."""
    store.breaker.rest(endpoint, 30)
    pass_time(store, endpoint, 31)
    take(store, endpoint)

    assert fail(store, endpoint) == pytest.approx(4, abs=0.001)
    assert 4 - SOON < refusal(store, endpoint) <= 4
    pass_time(store, endpoint, 5)

    (again,) = take(store, endpoint)
    assert again.suspect
    refusal(store, endpoint)


def test_a_rest_during_a_probe_begins_anew(store, endpoint):
    """A probe that is throttled again rests the endpoint for what it asks, and is followed by one probe after that."""
    store.breaker.rest(endpoint, 30)
    pass_time(store, endpoint, 31)
    take(store, endpoint)

    store.breaker.rest(endpoint, 5)

    assert 5 - SOON < refusal(store, endpoint) <= 5
    pass_time(store, endpoint, 6)
    take(store, endpoint)
    refusal(store, endpoint)


def test_failures_in_a_row_rest_the_endpoint_from_the_third_on(store, endpoint):
    """Fewer failures rest nothing, but what is admitted meanwhile is suspect: a good answer is to be reported."""
    assert not take(store, endpoint)[0].suspect
    assert [fail(store, endpoint), fail(store, endpoint)] == [0, 0]
    assert take(store, endpoint)[0].suspect

    assert fail(store, endpoint) == pytest.approx(4, abs=0.001)

    assert 4 - SOON < refusal(store, endpoint) <= 4


def test_failures_count_in_a_row_only(store, endpoint):
    """A good answer in between starts the count anew."""
    fail(store, endpoint)
    fail(store, endpoint)
    store.breaker.reopen(endpoint)

    assert [fail(store, endpoint), fail(store, endpoint)] == [0, 0]
    assert fail(store, endpoint) > 0


def test_each_failing_probe_doubles_the_rest_up_to_a_period(store, endpoint):
    """4, 8, 16, 32, then never more than the 60 s of the limit's longest period."""
    fail(store, endpoint)
    fail(store, endpoint)
    rests = []

    for _ in range(6):
        rests.append(fail(store, endpoint))
        pass_time(store, endpoint, rests[-1] + 1)
        take(store, endpoint)
        refusal(store, endpoint)

    assert rests == pytest.approx([4, 8, 16, 32, 60, 60], abs=0.001)


def test_a_failure_does_not_shorten_a_rest(store, endpoint):
    """Where the endpoint asked for more than its failures would rest it, that stands."""
    store.breaker.rest(endpoint, 50)
    set_health(store, endpoint, failures=2)

    assert 50 - SOON < fail(store, endpoint) <= 50


def test_failures_of_calls_from_before_a_rest_do_not_lengthen_it(store, endpoint):
    """Twenty calls under way fail at once: the third rests the endpoint, the others tell nothing new."""
    for _ in range(20):
        fail(store, endpoint)

    assert 4 - SOON < refusal(store, endpoint) <= 4


def test_a_rest_leaves_the_window_alone(store, endpoint):
    """The slots taken before a rest count after it."""
    full = make_endpoint("3 per 60 second")
    take(store, full, 3)
    store.breaker.rest(full, 5)
    pass_time(store, full, 6)

    assert 54 - SOON < refusal(store, full) <= 54.5


def test_who_keeps_refusing_rests_longer_each_time_although_it_asks_for_no_rest(store, endpoint):
    """From the second in a row on: 1, 2, 4 s and so on, up to a period; a longer rest that it asks for stands."""
    rests = []
    for _ in range(9):
        rests.append(store.breaker.rest(endpoint, 0))
        pass_time(store, endpoint, rests[-1] + 1)
        take(store, endpoint)
        refusal(store, endpoint)
    assert rests == pytest.approx([0, 1, 2, 4, 8, 16, 32, 60, 60], abs=0.001)

    assert store.breaker.rest(endpoint, 90) == pytest.approx(90, abs=0.001)


@pytest.mark.parametrize("answer", ["good", "failure"])
def test_refusals_count_in_a_row_only(store, endpoint, answer):
    """An answer that is none in between starts the count anew."""
    for _ in range(5):
        pass_time(store, endpoint, store.breaker.rest(endpoint, 0) + 1)
    if answer == "good":
        store.breaker.reopen(endpoint)
    else:
        pass_time(store, endpoint, fail(store, endpoint) + 1)

    assert store.breaker.rest(endpoint, 0) == 0


def test_refusals_of_calls_from_before_a_rest_do_not_lengthen_it(store, endpoint):
    """Twenty calls under way are refused at once."""
    for _ in range(20):
        store.breaker.rest(endpoint, 3)

    pass_time(store, endpoint, 4)
    assert store.breaker.rest(endpoint, 0) == pytest.approx(1, abs=0.001)
