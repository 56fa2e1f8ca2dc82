"""The lease: one holder at a time, a token that only grows, and what happens to a conductor that has lost it."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError
from tests.store import looks, steps
from tests.wait import wait_until

pytestmark = pytest.mark.both_servers

#: Long enough for any test, seconds.
LONG = 600.0


def test_the_first_who_asks_gets_it_and_wakes_lanes_if_something_is_overdue(store):
    """A lane that froze wakes nobody, and the others sleep until what they know of."""
    store.client.zadd(store.keys.due, {"frozen": 1})
    with store.client.pubsub(ignore_subscribe_messages=True) as woken:
        woken.subscribe(store.keys.wake("workers"))
        woken.get_message(timeout=5)  # that it listens
        assert store.leases.contend("a", LONG).token > 0
        assert woken.get_message(timeout=5)


def test_another_is_refused_while_it_is_held(store):
    store.leases.contend("a", LONG)

    with looks.nothing_changes(store):
        assert store.leases.contend("b", LONG).token == 0


def test_a_standby_takes_over_once_the_lease_has_run_out(store):
    first = store.leases.contend("a", LONG).token
    assert store.leases.contend("b", LONG).token == 0
    store.leases.contend("a", 0.05)

    second = wait_until(lambda: store.leases.contend("b", LONG).token, message="the standby has the lease")

    assert second == first + 1
    assert store.leases.contend("a", LONG).token == 0


def test_a_redis_that_came_back_empty_gives_no_token_twice(store):
    """The first token is the time, which is later than all that were given before: a deposed holder stays deposed."""
    for _ in range(5):
        before = store.leases.contend("a", LONG).token
        store.leases.release("a")
    now_s = int(store.now())
    store.client.hset(store.keys.lease, "token", before - 60)  # as a minute ago

    store.client.delete(store.keys.lease)

    assert store.leases.contend("b", LONG).token > before - 60
    assert store.leases.contend("b", LONG).token >= now_s


def test_a_lease_from_before_the_clock_was_set_back_runs_out_all_the_same(store):
    """Its holder is dead, and it would be held for as long as the clock was set back: no longer than one that asks."""
    first = store.leases.contend("dead", 3600).token

    assert store.leases.contend("b", 0.05).token == 0

    assert wait_until(lambda: store.leases.contend("b", 0.05).token, message="the standby has the lease") == first + 1


def test_a_released_lease_is_free_at_once(store):
    """The next one has it in the same moment, with a higher token, though it would have lasted for long."""
    token = store.leases.contend("a", 600).token

    assert store.leases.release("a")

    assert store.leases.read().holder is None
    assert store.leases.contend("b", 600).token == token + 1


def test_only_the_holder_can_release_it(store):
    """Another one's release does nothing."""
    store.leases.contend("a", 600)

    with looks.nothing_changes(store):
        assert not store.leases.release("b")


def open_a_run(store, token, run):
    store.runs.open(token, steps.make_run(store), store.ledger.types())


def move_the_run(store, token, run):
    store.runs.start(token, run.id)


def drain(store, token, run):
    list(store.intake.drain(token, run.id, steps.priorities(store)))


def publish_limits(store, token, run):
    store.rules.publish_limits(token)


def want_workers(store, token, run):
    store.runs.want(token, run.id, 3)


CONDUCTING = (open_a_run, move_the_run, drain, publish_limits, want_workers)


@pytest.mark.parametrize("verb", CONDUCTING)
@pytest.mark.parametrize("staged", [False, True], ids=["waiting", "staged"])
def test_a_conductor_that_was_succeeded_can_do_nothing(store, token, running, verb, staged):
    """Whatever it tries under its old token is refused as fenced and writes nothing, with items waiting or staged."""
    run = running(2)
    steps.push(store, steps.item("more", steps.TYPE))
    if staged:
        store.client.rename(store.keys.events, store.keys.processing)
    steps.take_over(store)

    with looks.nothing_changes(store), pytest.raises(FencedError):
        verb(store, token, run)


@pytest.mark.parametrize("verb", CONDUCTING)
def test_without_a_lease_nobody_conducts(store, verb):
    """Where no lease was ever taken, as after Redis lost its data, no token is good."""
    run = steps.make_run(store)
    steps.push(store, steps.item("i1", steps.TYPE))

    with looks.nothing_changes(store), pytest.raises(FencedError):
        verb(store, 1, run)
