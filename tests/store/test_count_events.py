"""count_events: the number of events of each type in each state, at one instant and in one command."""

from __future__ import annotations

import pytest

from rlm.core.errors import StoreError
from tests.store import looks, steps


def test_each_type_is_counted_by_where_its_events_are(store, token):
    """As the commands count that read one type at a time; what is released is counted for all types together."""
    steps.push(store, *steps.items(5, steps.TYPE, steps.OTHER_TYPE))
    run = steps.start_run(store, token)
    claims = [steps.claim_next(store, token, run, lane=number) for number in (1, 2, 3)]
    store.ledger.retry(claims[0], steps.ENDPOINT, 60)
    store.ledger.spend(claims[1], steps.ENDPOINT)
    steps.release(store, token, run, 2)
    names = [steps.TYPE, "NONE", steps.OTHER_TYPE]

    counts, released = store.ledger.count_waiting(names)

    assert released == 2
    assert list(counts) == names
    told = counts[steps.TYPE]
    assert (told.pending, told.inflight, told.backoff, told.spent, told.boarding) == (2, 1, 1, 1, 1)
    assert counts[steps.OTHER_TYPE] == looks.counts(store, steps.OTHER_TYPE)
    assert counts["NONE"].unsettled == 0


def test_a_key_of_another_type_is_an_error(store):
    """As with the commands: nothing is counted as none."""
    store.client.set(store.keys.pending(steps.TYPE), "no zset")

    with pytest.raises(StoreError):
        store.ledger.count_waiting([steps.TYPE])
