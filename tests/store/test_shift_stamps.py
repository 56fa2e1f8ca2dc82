"""When the clock of Redis is set, future moments move with it: none is due at once, nor in hours."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError
from rlm.ledger.claims import Refused
from rlm.ledger.dataloss import Continuity
from tests.store import looks, steps
from tests.store.windows import health, set_health

HOUR_US = 3_600_000_000


@pytest.fixture
def endpoint(store):
    """An endpoint of the configuration, because only those are moved."""
    return store.settings.endpoints[steps.ENDPOINT]


@pytest.mark.parametrize("shift_us", [HOUR_US, -HOUR_US])
def test_rests_and_probes_move(store, token, endpoint, shift_us):
    """All moments of its health do, what is no moment stays."""
    before = dict.fromkeys(("rest_until_us", "held_until_us", "paused_until_us", "probe_until_us"), 2 * HOUR_US)
    set_health(store, endpoint, **before, failures=7)

    assert store.shift_stamps(token, "", shift_us, "it was set") == 4

    assert health(store, endpoint) == {**dict.fromkeys(before, 2 * HOUR_US + shift_us), "failures": 7}


@pytest.mark.parametrize("shift_us", [HOUR_US, -HOUR_US])
def test_the_deadline_and_the_leases_of_a_run_move(store, token, running, shift_us):
    """A lease without a slot, whose score is negative, moves as the others do."""
    run = running(3)
    steps.claim_next(store, token, run)
    for _ in range(2):
        store.ledger.retry(steps.claim_next(store, token, run), steps.ENDPOINT, 60)
    deadline_us = store.runs.current().deadline_us
    inflight, backoff = store.keys.inflight(steps.TYPE), store.keys.backoff(steps.TYPE)
    before = {key: dict(store.client.zrange(key, 0, -1, withscores=True)) for key in (inflight, backoff)}

    assert store.shift_stamps(token, run.id, shift_us, "it was set") == 1 + 1 + 2

    assert store.runs.current().deadline_us == deadline_us + shift_us
    after = dict(store.client.zrange(inflight, 0, -1, withscores=True))
    assert after == {name: score - shift_us for name, score in before[inflight].items()}
    after = dict(store.client.zrange(backoff, 0, -1, withscores=True))
    assert after == {name: score + shift_us for name, score in before[backoff].items()}


def test_what_is_released_is_released_anew(store, token, running):
    """Its moments are of the clock as it was; its events are still pending."""
    run = running(3)
    steps.release(store, token, run, 3)

    store.shift_stamps(token, run.id, HOUR_US, "it was set")

    assert looks.released(store) == []
    assert looks.pending(store) == steps.event_ids(3)


def test_a_run_that_is_no_longer_open_is_left_alone(store, token, running):
    """Nothing is made of it."""
    running(1)

    store.shift_stamps(token, "another", HOUR_US, "it was set")

    assert not store.client.exists(store.keys.run("another"))


def test_how_far_moments_were_ever_moved_is_told_with_the_time(store, token):
    """So that nobody moves them again for the same step: also who was not there."""
    for shift_us in (HOUR_US, -3 * HOUR_US):
        store.shift_stamps(token, "", shift_us, "it was set")

    assert store.epochs.watch()[1] == -2 * HOUR_US
    assert store.epochs.vouch(token).shifted_us == -2 * HOUR_US


def test_no_slot_is_given_from_then_on_until_endpoints_were_held(store, token, endpoint):
    """Whoever vouches for the server learns why."""
    store.shift_stamps(token, "", HOUR_US, "it was set")

    assert isinstance(store.windows.acquire(endpoint), Refused)
    vouched = store.epochs.vouch(token)
    assert (vouched.verdict, vouched.why) == (Continuity.FORGOT, "it was set")


def test_a_deposed_conductor_moves_nothing(store, token, endpoint):
    """Else it would be moved twice."""
    set_health(store, endpoint, rest_until_us=HOUR_US)

    before = store.client.hgetall(store.keys.epoch)

    with pytest.raises(FencedError):
        store.shift_stamps(token - 1, "", HOUR_US, "it was set")

    assert health(store, endpoint) == {"rest_until_us": HOUR_US}
    assert store.client.hgetall(store.keys.epoch) == before
