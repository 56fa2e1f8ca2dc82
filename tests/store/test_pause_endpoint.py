"""Pausing an endpoint by hand: no slot is given, independently of other rests."""

from __future__ import annotations

import math

import pytest

from rlm.core.window import Circuit, circuit_of
from rlm.ledger.control import What
from tests.store.windows import (
    hold,
    look,
    make_budget,
    make_endpoint,
    pass_time,
    refusal,
    rest,
    take,
)

BY = "someone@somewhere"
A_CENTURY = 100 * 365 * 86_400


@pytest.fixture
def endpoint():
    """An endpoint whose limit is never met here."""
    return make_endpoint("100/minute")


def test_a_paused_endpoint_gives_no_slot_for_that_long(store, endpoint):
    """What is seen is what asking finds; the slots it had used still count once the pause is over."""
    take(store, endpoint)

    store.control.pause(endpoint, BY, 30)

    assert 28 < refusal(store, endpoint) <= 30
    view = look(store, endpoint)
    assert view.free == 0
    assert 28 < view.paused_seconds == view.rest_seconds == view.wait_seconds <= 30
    assert circuit_of(view) is Circuit.PAUSED
    pass_time(store, endpoint, 31)
    assert look(store, endpoint).free == 99
    take(store, endpoint)


def test_without_an_end_it_lasts_until_it_is_resumed(store, endpoint):
    """It waits for longer than anybody does, and its end is not told."""
    store.control.pause(endpoint, BY)

    assert refusal(store, endpoint) > A_CENTURY
    assert look(store, endpoint).paused_seconds > A_CENTURY
    assert store.windows.health([endpoint])["api"].paused_until is None


def test_who_paused_it_and_when_is_told_and_recorded(store, endpoint):
    """In its health, and in the record of changes."""
    store.control.pause(endpoint, BY, 30)
    store.control.pause(endpoint, "another@place")

    newest, before = store.changes.newest(2)
    assert (newest.by, newest.what, newest.before, newest.after) == (
        "another@place",
        What.PAUSE,
        "paused",
        "until resumed",
    )
    assert (before.by, before.name, before.before, before.after) == (BY, "api", None, "30 s")
    health = store.windows.health([endpoint])["api"]
    assert health.paused_by == "another@place"
    assert health.paused_at == newest.at


@pytest.mark.parametrize(("first", "then"), [(60, 20), (20, 60), (None, 20)])
def test_said_again_the_last_word_counts(store, endpoint, first, then):
    """A pause replaces the one before, be it longer or shorter."""
    store.control.pause(endpoint, BY, first)

    store.control.pause(endpoint, BY, then)

    assert then - 2 < refusal(store, endpoint) <= then


@pytest.mark.parametrize(("rested", "held", "pause"), [(50, 0, 20), (20, 0, 50), (0, 50, 20), (0, 20, 50)])
def test_the_longest_of_all_rests_counts(store, endpoint, rested, held, pause):
    """A pause neither shortens nor is shortened by a rest for what was answered, or for a window not trusted."""
    if rested:
        rest(store, endpoint, rested)
    if held:
        hold(store, endpoint, held)

    store.control.pause(endpoint, BY, pause)

    assert 48 < refusal(store, endpoint) <= 50
    view = look(store, endpoint)
    assert 48 < view.rest_seconds == view.wait_seconds <= 50
    assert math.isclose(view.paused_seconds, pause, abs_tol=2)
    assert circuit_of(view) is (Circuit.HELD if held else Circuit.PAUSED)


def test_a_paused_budget_pauses_all_that_hang_on_it(store):
    """And nobody else."""
    account = make_budget("100/minute")
    one, other = make_endpoint(name="one", budget=account), make_endpoint(name="other")

    store.control.pause(account, BY, 30)

    assert 28 < refusal(store, one) <= 30
    take(store, other)


def test_only_the_newest_records_of_pauses_are_kept(store, endpoint, monkeypatch):
    """As those of limits: else the list would grow for ever."""
    monkeypatch.setattr("rlm.ledger.control.MOST_CHANGES", 3)

    for number in range(5):
        store.control.pause(endpoint, f"someone{number}@somewhere")

    assert [one.by for one in store.changes.newest()] == [f"someone{number}@somewhere" for number in (4, 3, 2)]
