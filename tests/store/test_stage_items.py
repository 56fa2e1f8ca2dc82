"""stage_items: the audit list moves to staging in one step, once per run."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError
from rlm.ledger.scripts import Script
from tests.store import looks, steps

SCRIPT = Script("stage_items")


def stage(store, token, run_id):
    keys = store.keys
    return SCRIPT(
        store.client,
        lease=keys.lease,
        run=keys.run,
        events=keys.events,
        staging=keys.processing,
        token=token,
        run_id=run_id,
    )


def staged(store):
    """Return the content of staging, oldest first."""
    return store.client.lrange(store.keys.processing, 0, -1)[::-1]


@pytest.fixture
def run(store, token):
    return steps.open_run(store, token)


def test_an_empty_audit_list_stages_nothing(store, token, run):
    """Nothing is staged, and that was this run's one helping."""
    assert stage(store, token, run.id) == 0

    assert staged(store) == []
    assert store.client.hget(store.keys.run, "staged") == b"1"


@pytest.mark.parametrize("number", [1, 201])
def test_all_that_waits_is_staged_in_its_order(store, token, run, number):
    """The audit list is gone, staging holds its items, the oldest first to be read."""
    steps.push(store, *steps.items(number, steps.TYPE))

    assert stage(store, token, run.id) == number

    assert staged(store) == steps.items(number, steps.TYPE)
    assert store.client.exists(store.keys.events) == 0


def test_items_are_moved_byte_for_byte(store, token, run):
    """What is no JSON, nor even text, is moved like anything else."""
    steps.push(store, b"\xff\x00\r\n", "größer".encode())

    stage(store, token, run.id)

    assert staged(store) == [b"\xff\x00\r\n", "größer".encode()]


def test_a_repeated_call_takes_no_second_helping(store, token, run):
    """What is pushed after the first call stays on the audit list; the reply is what is still staged."""
    steps.push(store, *steps.items(2, steps.TYPE))
    stage(store, token, run.id)
    steps.push(store, steps.item("late", steps.TYPE))

    with looks.nothing_changes(store):
        assert stage(store, token, run.id) == 2


def test_what_a_crash_left_staged_must_be_drained_first(store, token, run):
    """While an earlier drain's items are staged nothing moves, and the run keeps its helping."""
    store.client.lpush(store.keys.processing, *steps.items(1, steps.TYPE))
    steps.push(store, steps.item("new", steps.TYPE))

    with looks.nothing_changes(store):
        assert stage(store, token, run.id) == -1
    store.client.delete(store.keys.processing)

    assert stage(store, token, run.id) == 1


def test_the_next_run_stages_again(store, token, run):
    """Each run has one helping."""
    stage(store, token, run.id)
    steps.finish(store, token, run)
    assert store.runs.close(run.id, {}, wanted=0) == 1
    steps.push(store, steps.item("next", steps.TYPE))

    assert stage(store, token, steps.open_run(store, token).id) == 1


def test_another_run_moves_nothing(store, token, run):
    """A run that is not open, closed or never opened, takes nothing off the audit list."""
    steps.push(store, steps.item("i1", steps.TYPE))

    with looks.nothing_changes(store), pytest.raises(FencedError):
        stage(store, token, "another")
