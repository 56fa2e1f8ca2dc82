"""fail_pending: pending events of an unconfigured type become dead letters, only by the conductor."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError
from tests.store import looks, steps


@pytest.fixture
def run(running):
    return running(1)


def test_a_type_that_is_no_longer_configured_without_events(store, token, run):
    """There is nothing to fail."""
    with looks.nothing_changes(store):
        assert store.recovery.fail_unknown(token, run.id, "NO_LONGER_CONFIGURED") == 0


@pytest.mark.parametrize("number", [1, 250])
def test_pending_events_of_a_type_that_is_no_longer_configured(store, token, running, number):
    """All of them become dead letters, counted as failed, without a call."""
    run = running(number)

    assert store.recovery.fail_unknown(token, run.id, steps.TYPE) == number

    assert {(one["reason"], one["run_id"]) for one in looks.letters(store)} == {("unknown_type", run.id)}
    assert [one["event_id"] for one in looks.letters(store)] == steps.event_ids(number)
    assert looks.letters(store)[0]["item"]["id"] == "i1"
    assert looks.tally(store) == {f"taken:{steps.TYPE}": number, f"failed:{steps.TYPE}": number}
    assert looks.counts(store).unsettled == 0
    assert looks.event(store, steps.event_id(1))["state"] == "failed"


def test_failing_a_type_again_changes_nothing(store, token, run):
    """What has become a letter is not there to become another."""
    store.recovery.fail_unknown(token, run.id, steps.TYPE)

    with looks.nothing_changes(store):
        assert store.recovery.fail_unknown(token, run.id, steps.TYPE) == 0


def test_events_of_the_type_that_are_under_way_are_not_failed(store, token, running):
    """Only what is pending: a call under way is awaited, and settled by its worker."""
    run = running(3)
    claim, other = steps.claim(store), steps.claim(store)
    steps.fail(store, other, "backoff", delay_us=60_000_000)

    assert store.recovery.fail_unknown(token, run.id, steps.TYPE) == 1

    assert looks.where(store, claim.event_id) == ["inflight"]
    assert looks.where(store, other.event_id) == ["backoff"]


def test_a_deposed_conductor_fails_nothing(store, token, run):
    """Its configuration may be older than its successor's, which can send the events."""
    with looks.nothing_changes(store), pytest.raises(FencedError):
        store.recovery.fail_unknown(token + 1, run.id, steps.TYPE)
