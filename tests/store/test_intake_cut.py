"""The drain cut short: at every call, between any two chunks, by a successor, by a concurrent drain."""

from __future__ import annotations

import threading

import pytest

from rlm.core.errors import FencedError, StoreUnreachableError
from rlm.ledger.intake import Intake
from rlm.ledger.letters import Letters
from rlm.ledger.scripts import Access, Script
from tests.store import looks, steps
from tests.store.cutclient import CutClient

#: An item that is too large to be read.
GIANT = b"G" * 70_000
#: Count the letters, read (twice for two items, unless two were taken before), take and read; stage; count, and read
#: and take six chunks, four of them with letters, for which the time is asked, and which are counted; read the end.
CALL_SITES = 25


@pytest.fixture
def scenario(store, token, run, small_chunks):
    """Two items left in staging by a crash, seven waiting: good, bad, with duplicates, of several types, giants."""
    for name in ("stage_list", "take_chunk"):
        store.client.script_load(Script(name).source)
    store.client.lpush(store.keys.processing, steps.item("i1", steps.TYPE), steps.item("i2", steps.TYPE))
    steps.push(
        store,
        steps.item("i3", steps.TYPE, steps.OTHER_TYPE),
        b"bad",
        GIANT,
        GIANT,
        steps.item("i1", steps.TYPE),
        steps.item("i4", "UNKNOWN", steps.OTHER_TYPE),
        steps.item("i5", steps.TYPE),
    )
    return run


def drain_by(store, client, token, run):
    other = Access(store.settings, store.url)
    other.client = client
    return list(Intake(other, Letters(other)).drain(token, run.id, steps.priorities(store)))


def assert_drained_once(store, run):
    """Check that the ledger has the scenario, nothing lost, nothing doubled."""
    assert looks.pending(store) == [steps.event_id(number) for number in (1, 2, 3, 5)]
    assert looks.pending(store, steps.OTHER_TYPE) == [steps.event_id(number, steps.OTHER_TYPE) for number in (3, 4)]
    assert sorted(one["reason"] for one in looks.letters(store)) == ["not_json", *["too_large"] * 2, "unknown_type"]
    assert store.client.lrange(store.keys.aside, 0, -1) == [GIANT, GIANT]
    assert looks.tally(store) == {
        f"taken:{steps.TYPE}": 4,
        f"taken:{steps.OTHER_TYPE}": 2,
        "duplicates": 1,
        "invalid": 4,
    }
    assert sum(store.intake.lengths()) == 0


@pytest.mark.parametrize("applied", [False, True], ids=["request lost", "reply lost"])
@pytest.mark.parametrize("at", range(1, CALL_SITES + 1))
def test_a_drain_cut_anywhere_is_resumed_by_a_successor(store, token, scenario, at, applied):
    """With a newer token; the first conductor, should it come back, is fenced and changes nothing."""
    with pytest.raises(StoreUnreachableError):
        drain_by(store, CutClient(store.client, at=at, applied=applied), token, scenario)
    successor = steps.take_over(store)

    with looks.nothing_changes(store), pytest.raises(FencedError):
        steps.drain(store, token, scenario)
    steps.drain(store, successor, scenario)
    with looks.nothing_changes(store), pytest.raises(FencedError):
        steps.drain(store, token, scenario)

    assert_drained_once(store, scenario)


#: How often a drain of the scenario yields: after each chunk, and each giant.
YIELDS = 6


@pytest.mark.parametrize("chunks", range(YIELDS + 1))
def test_a_drain_abandoned_between_chunks_is_resumed_by_a_successor(store, token, scenario, chunks):
    """The first conductor was frozen there; waking up while items are still staged, it is fenced."""
    drain = store.intake.drain(token, scenario.id, steps.priorities(store))
    for _ in range(chunks):
        next(drain)
    successor = steps.take_over(store)

    if chunks < YIELDS:
        with looks.nothing_changes(store), pytest.raises(FencedError):
            list(drain)
    steps.drain(store, successor, scenario)
    with looks.nothing_changes(store):
        assert list(drain) == []

    assert_drained_once(store, scenario)


@pytest.mark.usefixtures("small_chunks")
def test_nothing_is_lost_or_doubled_while_a_producer_pushes(store, token):
    """Run after run drains what has come by then; in the end every item was taken once, in its order."""
    number, produced = 120, threading.Event()

    def produce():
        try:
            for one in steps.items(number, steps.TYPE):
                steps.push(store, one)
        finally:
            produced.set()

    def conduct():
        taken, is_last = 0, False
        while not is_last:
            is_last = produced.is_set()
            run = steps.open_run(store, token)
            taken += steps.drain(store, token, run)
            steps.finish(store, token, run)
            store.runs.close(run.id, {}, store.runs.tally(), wanted=0)
        return taken

    _, taken = steps.at_once(produce, conduct)

    assert taken == number
    assert looks.pending(store) == steps.event_ids(number)
    assert sum(store.intake.lengths()) == 0
