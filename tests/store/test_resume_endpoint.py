"""Resuming an endpoint ends a pause and a rest after answers, but never a hold for an untrusted window."""

from __future__ import annotations

import pytest

from rlm.core.window import Circuit, circuit_of
from rlm.ledger.control import Resumed, What
from tests.store import looks
from tests.store.windows import hold, look, make_endpoint, record_of, refusal, rest, take

BY = "someone@somewhere"


@pytest.fixture
def endpoint():
    """An endpoint whose limit is never met here."""
    return make_endpoint("100/minute")


@pytest.mark.parametrize("seconds", [30, None])
def test_a_paused_endpoint_is_as_it_was(store, endpoint, seconds):
    """Its window has kept what was used; nothing of the pause is left."""
    take(store, endpoint)
    before = record_of(store, endpoint)
    store.control.pause(endpoint, BY, seconds)

    assert store.control.resume(endpoint, BY) == Resumed(paused=True, rested=False)

    assert record_of(store, endpoint) == before
    assert look(store, endpoint).free == 99
    assert circuit_of(look(store, endpoint)) is Circuit.OK


def test_a_rest_for_what_it_answered_ends_and_its_next_call_is_a_probe(store, endpoint):
    """A single one."""
    rest(store, endpoint, 30)

    assert store.control.resume(endpoint, BY) == Resumed(paused=False, rested=True)

    view = look(store, endpoint)
    assert view.free == 1
    assert circuit_of(view) is Circuit.PROBING


def test_a_rest_because_its_window_cannot_be_trusted_stands(store, endpoint):
    """No word of an operator makes known what was sent."""
    hold(store, endpoint, 30)
    store.control.pause(endpoint, BY)

    assert store.control.resume(endpoint, BY) == Resumed(paused=True, rested=False)

    assert 28 < refusal(store, endpoint) <= 30
    assert circuit_of(look(store, endpoint)) is Circuit.HELD


def test_what_was_ended_is_recorded_with_by_whom(store, endpoint):
    """Both, where it was both."""
    rest(store, endpoint, 30)
    store.control.pause(endpoint, BY)

    store.control.resume(endpoint, "another@place")

    newest = store.changes.newest(1)[0]
    assert (newest.by, newest.name, newest.what, newest.before, newest.after) == (
        "another@place",
        "api",
        What.RESUME,
        "paused, open",
        None,
    )


def test_resuming_what_is_neither_changes_nothing(store, endpoint):
    """Nothing is recorded."""
    take(store, endpoint)

    with looks.nothing_changes(store):
        assert store.control.resume(endpoint, BY) == Resumed(paused=False, rested=False)


def test_only_the_newest_records_of_resuming_are_kept(store, endpoint, monkeypatch):
    """As those of pauses and limits."""
    for _ in range(3):
        store.control.pause(endpoint, BY)
    monkeypatch.setattr("rlm.ledger.control.MOST_CHANGES", 2)

    store.control.resume(endpoint, BY)

    assert [one.what for one in store.changes.newest()] == [What.RESUME, What.PAUSE]
