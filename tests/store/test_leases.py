"""The lease for conductors: who holds it, and what happens to one that has lost it."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError
from rlm.core.run import State
from tests.store import looks, steps

pytestmark = pytest.mark.both_servers


def test_nobody_holds_it_at_first(store):
    """Before anyone asked there is no holder."""
    assert store.leases.holder() is None


def test_the_holder_is_named_until_its_lease_runs_out(store):
    """While it holds it is named; a lease of no length is over at once."""
    store.leases.acquire("a", 600)
    assert store.leases.holder() == "a"

    store.leases.acquire("a", 0)
    assert store.leases.holder() is None


def open_a_run(store, token, run):
    store.runs.open(token, steps.make_run(store), store.known_types)


def move_the_run(store, token, run):
    store.runs.advance(token, run.id, State.FINISHING)


def drain(store, token, run):
    list(store.intake.drain(token, run.id, steps.priorities(store)))


def publish_limits(store, token, run):
    store.publish_limits(token)


def want_workers(store, token, run):
    store.runs.want(token, 3)


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
def test_fencing_does_not_depend_on_what_the_server_has_loaded(store, token, running, verb):
    """A server that was restarted has forgotten its scripts: being fenced is told all the same, not a failing Redis."""
    run = running(2)
    steps.take_over(store)
    store.client.script_flush()

    with looks.nothing_changes(store), pytest.raises(FencedError):
        verb(store, token, run)


@pytest.mark.parametrize("verb", CONDUCTING)
def test_without_a_lease_nobody_conducts(store, verb):
    """Where no lease was ever taken, as after Redis lost its data, no token is good."""
    run = steps.make_run(store)
    steps.push(store, steps.item("i1", steps.TYPE))

    with looks.nothing_changes(store), pytest.raises(FencedError):
        verb(store, 1, run)


def test_the_successor_conducts(store, token, running):
    """Under the new token everything goes on with the run that was open."""
    run = running(2)
    successor = steps.take_over(store)

    assert store.runs.advance(successor, run.id, State.FINISHING)
