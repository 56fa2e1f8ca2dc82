"""The trail of an event: each call is written in the step that settles it or gives it back, and lives as long."""

from __future__ import annotations

import pytest

from rlm.admin.explain import trail_of as read_trail
from rlm.core.call import CallEnd
from tests.store import steps


@pytest.fixture
def run(running):
    return running(1)


def trail_of(store):
    """Read the event's trail."""
    return read_trail(store.client.hgetall(store.keys.event(steps.event_id(1))))


@pytest.mark.parametrize("lost", ["died", "froze", "closed"])
def test_a_call_that_was_lost_stands_there_with_nobody_knowing_its_answer(store, token, run, lost):
    """It may have been sent. Its late answer changes nothing any more."""
    claim = steps.claim(store)
    if lost == "died":
        assert store.ledger.reap(claim.worker_id) == 1
    elif lost == "froze":
        store.client.zadd(store.keys.due, {claim.event_id: 1})
        steps.settle(store, steps.claim(store, "other"), "ready")
    else:
        steps.finish(store, token, run)

    (one,) = trail_of(store)
    assert (one.run_id, one.attempt, one.endpoint) == (run.id, 1, claim.endpoint)
    assert (one.answer, one.seconds) == (CallEnd.UNKNOWN, None)
    assert [call.end for call in store.calls.since(0.0)] == [CallEnd.UNKNOWN]
    assert not steps.complete(store, claim)
    assert len(trail_of(store)) == 1
