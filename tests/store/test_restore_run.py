"""A run that lost only the note that it is open becomes the open one again."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError


def test_it_is_found_by_its_hash(store, token, running):
    """And goes on where it stood."""
    run = running(1)
    store.client.delete(store.keys.current)

    assert [store.runs.restore(token, one) for one in store.runs.left_open()] == [True]

    assert store.runs.current() == run


def test_no_second_run_is_opened(store, token, running):
    """One is open."""
    running(1)

    assert not store.runs.restore(token, "another run")


def test_what_is_no_run_is_passed_over(store, token, running):
    """Of it nothing could be conducted."""
    run = running(1)
    store.client.hset(store.keys.run("zzz"), "state", "garbage")
    store.client.set(store.keys.run("yyy"), "another type")

    assert store.runs.left_open() == [run.id]


def test_a_deposed_conductor_restores_nothing(store, token, running):
    """Its successor does."""
    run = running(1)
    store.client.delete(store.keys.current)

    with pytest.raises(FencedError):
        store.runs.restore(token - 1, run.id)
