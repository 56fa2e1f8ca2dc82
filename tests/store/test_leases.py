"""The lease for conductors: who holds it, and what happens to one that has lost it."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError
from rlm.core.run import State
from tests.store import looks, steps

pytestmark = pytest.mark.both_servers


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
def test_without_a_lease_nobody_conducts(store, verb):
    """Where no lease was ever taken, as after Redis lost its data, no token is good."""
    run = steps.make_run(store)
    steps.push(store, steps.item("i1", steps.TYPE))

    with looks.nothing_changes(store), pytest.raises(FencedError):
        verb(store, 1, run)
