"""begin_alone: a lane that has waited with an event begins to carry it alone; a death counts from then on."""

from __future__ import annotations

import pytest

from rlm.ledger.recovery import POISON_DEATHS
from tests.store import looks, steps


@pytest.fixture
def suspect(store, token, running):
    """A claim of an event of which two workers died."""
    run = running(1)
    for death in range(POISON_DEATHS - 1):
        steps.claim_next(store, token, run, f"dead-{death}")
        assert store.recovery.orphan_worker(f"dead-{death}") == 1
    return steps.claim_next(store, token, run)


def test_it_waits_no_longer(store, suspect):
    """As its note says; a repeated call changes nothing."""
    assert looks.calls(store, "worker-1") == {suspect.event_id: "1:-"}

    assert store.ledger.begin_alone(suspect)

    assert looks.calls(store, "worker-1") == {suspect.event_id: "1:"}
    with looks.nothing_changes(store):
        assert store.ledger.begin_alone(suspect)


def test_a_death_before_it_has_begun_does_not_count(store, suspect):
    """Its worker died of what other lanes carried: the event is pending again, and no dead letter."""
    assert store.recovery.orphan_worker("worker-1") == 1

    assert looks.letters(store) == []
    assert looks.where(store, suspect.event_id) == ["pending"]
    assert looks.event(store, suspect.event_id)["deaths"] == str(POISON_DEATHS - 1)


def test_a_death_once_it_has_begun_counts(store, suspect):
    """Nothing else was in hand: this event it was."""
    store.ledger.begin_alone(suspect)

    assert store.recovery.orphan_worker("worker-1") == 1

    (letter,) = looks.letters(store)
    assert (letter["reason"], letter["event_id"]) == ("poison", suspect.event_id)


def test_what_was_taken_back_meanwhile_is_not_begun(store, suspect):
    """Its lease ended while it waited."""
    store.recovery.orphan_worker("worker-1")

    with looks.nothing_changes(store):
        assert not store.ledger.begin_alone(suspect)


@pytest.mark.parametrize("worker", ["worker-1", "worker-2"])
def test_what_another_lane_has_by_now_is_not_begun(store, token, suspect, worker):
    """Whether of the same worker or of another one."""
    store.recovery.orphan_worker("worker-1")
    steps.claim_next(store, token, store.runs.current(), worker, lane=2)

    with looks.nothing_changes(store):
        assert not store.ledger.begin_alone(suspect)
