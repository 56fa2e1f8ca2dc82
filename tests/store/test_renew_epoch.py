"""If windows cannot be trusted a new epoch begins: every endpoint is held for exactly its longest period."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError
from rlm.ledger.claims import Admitted, Refused
from rlm.ledger.dataloss import Continuity
from tests.store.windows import health, look, make_budget, make_endpoint, pass_time, refusal, set_health, stamps, take

#: How exactly a hold is met by a test that looks at it a moment later, seconds.
SOON = 2.0


@pytest.fixture
def endpoint():
    """An endpoint with two rules, whose longest period is a minute."""
    return make_endpoint("100 per 60 second; 50 per 1 second")


def renew(store, token):
    store.epochs.renew(token, "it forgot")


def test_every_endpoint_is_held_for_its_longest_period_and_the_guard(store, make_store, token, endpoint):
    """In every process nobody is admitted until then; everybody is told how much is left, and why."""
    other = make_endpoint("5 per 10 second", "other")

    renew(store, token)

    for one in (store, make_store()):
        assert 60.5 - SOON < refusal(one, endpoint) <= 60.5
        view = look(one, endpoint)
        assert 60.5 - SOON < view.rest_seconds == view.held_seconds <= 60.5
        assert 10.5 - SOON < refusal(one, other) <= 10.5
        assert look(one, endpoint).free == 0
    assert store.epochs.last_renewal().why == "it forgot"


def test_calls_under_way_are_waited_for(store, token, endpoint):
    """As long as they may take."""
    store.epochs.renew(token, "it forgot", underway_seconds=10)

    assert 70.5 - SOON < refusal(store, endpoint) <= 70.5
    assert 70.5 - SOON < look(store, endpoint).held_seconds <= 70.5


def test_a_rule_that_comes_later_and_looks_further_back_is_waited_for_too(store, token):
    """By then its window has some history, but none from before."""
    renew(store, token)
    short = make_endpoint("5 per 0.2 second")
    pass_time(store, short, 1)
    take(store, short, 5)

    longer = make_endpoint("5 per 0.2 second; 12 per 60 second")

    assert 59.5 - SOON < refusal(store, longer) <= 59.5
    assert 59.5 - SOON < look(store, longer).held_seconds <= 59.5


def test_when_it_is_over_the_endpoint_is_as_it_was(store, token, endpoint):
    """Nothing was said against it: no probe is needed, and nobody is suspect."""
    renew(store, token)

    pass_time(store, endpoint, 61)

    assert not look(store, endpoint).suspect
    assert look(store, endpoint).free == 50
    assert not any(slot.suspect for slot in take(store, endpoint, 10))


def test_it_does_not_reopen_what_is_suspect(store, token, endpoint):
    """An endpoint that failed before still needs its probe, whichever rest ends last."""
    store.breaker.rest(endpoint, 5)

    renew(store, token)

    pass_time(store, endpoint, 61)
    assert take(store, endpoint)[0].suspect


def test_a_longer_hold_stands(store, token, endpoint):
    """One that was begun for a longer period is not shortened."""
    now_us, _ = store.windows.look(())
    set_health(store, endpoint, held_until_us=now_us + 90_000_000)

    renew(store, token)

    assert 90 - SOON < refusal(store, endpoint) <= 90


def test_a_good_answer_does_not_end_it(store, token, endpoint):
    """It is about what RLM knows, not about how the API is."""
    renew(store, token)

    store.breaker.reopen(endpoint)

    assert 60.5 - SOON < refusal(store, endpoint) <= 60.5


def test_a_budget_is_held_as_an_endpoint_is(store, token):
    """All that share it wait for its longest period, and go on afterwards."""
    budget = make_budget("9 per 90 second")
    endpoints = [make_endpoint("9/minute", name, budget=budget) for name in ("one", "two")]

    renew(store, token)

    for one in endpoints:
        assert 90.5 - SOON < refusal(store, one) <= 90.5
    pass_time(store, budget, 91)
    take(store, endpoints[0], 4)
    take(store, endpoints[1], 5)


def test_the_new_epoch_is_younger_than_all_that_is_known(store, make_store, token, endpoint):
    """So whoever knows the one before takes it for what it is, and slots are taken again without another hold."""
    store.epochs.vouch(token)
    other = make_store()
    other.epochs.watch()
    store.client.delete(store.keys.epoch)
    assert store.epochs.vouch(token).verdict is Continuity.FORGOT

    renew(store, token)

    assert store.epochs.vouch(token).verdict is Continuity.KEPT
    assert other.epochs.vouch(token).verdict is Continuity.KEPT
    pass_time(store, endpoint, 61)
    assert isinstance(store.windows.acquire(endpoint), Admitted)


def test_a_clock_that_was_followed_gives_no_slot_until_all_are_held(store, make_store, token, endpoint):
    """Who followed it may die in between: whoever conducts next is told why, and by how much moments were moved."""
    store.epochs.vouch(token)
    store.shift_stamps(token, "", 5_000_000, "it stepped")
    successor = make_store()

    assert isinstance(store.windows.acquire(endpoint), Refused)
    found = successor.epochs.vouch(token)
    assert (found.verdict, found.why, found.shifted_us) == (Continuity.FORGOT, "it stepped", 5_000_000)

    successor.epochs.renew(token, found.why)

    found = store.epochs.vouch(token)
    assert (found.verdict, found.why, found.shifted_us) == (Continuity.KEPT, "", 5_000_000)
    assert look(store, endpoint).held_seconds > 0


def test_a_deposed_conductor_renews_nothing(store, token, endpoint):
    """Nobody is held by it."""
    with pytest.raises(FencedError):
        renew(store, token - 1)

    assert health(store, endpoint) == {}
    assert stamps(store, endpoint) == []
