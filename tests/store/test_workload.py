"""Whatever workers do in whatever order, each taken event is in one place or settled, and the books balance."""

from __future__ import annotations

import random
import threading
from collections import Counter

import pytest

from rlm.ledger.reading.books import books
from tests.store import looks, steps
from tests.store.workload import TYPES, Workload, assert_books_balance

pytestmark = pytest.mark.both_servers

STEPS_A_RUN = 60
RUNS = 3


@pytest.fixture
def make_workload(store, token):
    def make(seed):
        workload = Workload(store, token, random.Random(seed), steps.open_run(store, token))
        workload.push(20)
        workload.next_run()
        return workload

    return make


def assert_nothing_lost(store, workload):
    """Check that every pushed event is unsettled in one place, completed, or a dead letter; never two of these."""
    letters = Counter(one["event_id"] for one in looks.letters(store))
    for event_id in set(workload.pushed):
        places = looks.where(store, event_id)
        completed = workload.completed.count(event_id)
        assert len(places) + completed + letters[event_id] == 1, (event_id, places, completed, letters[event_id])
        assert ("item" in looks.event(store, event_id)) == bool(places)


@pytest.mark.parametrize("seed", range(3))
def test_the_books_balance_after_every_step(store, make_workload, seed):
    """Workers die, answer late and twice, leases run out, messages are lost, runs close over it all."""
    workload = make_workload(seed)

    for _ in range(RUNS):
        for _ in range(STEPS_A_RUN):
            workload.step()
            assert_books_balance(store, workload.run)
            assert books(store).faults == []
        workload.next_run()

    assert_nothing_lost(store, workload)
    assert workload.completed


@pytest.mark.parametrize("seed", range(1))
def test_the_books_balance_at_every_instant(store, make_workload, seed):
    """Six at a time do all that while a seventh reads the books over and over."""
    workload = make_workload(seed)
    workload.alone = False
    ended = threading.Event()

    def read_the_books():
        read = 0
        while not ended.is_set() or not read:
            assert_books_balance(store, workload.run)
            read += 1
        return read

    def work():
        for _ in range(STEPS_A_RUN):
            workload.step()

    def work_and_end():
        try:
            steps.at_once(*[work] * 6)
        finally:
            ended.set()
        return 0

    read, _ = steps.at_once(read_the_books, work_and_end)
    workload.next_run()

    assert read > 0
    assert_nothing_lost(store, workload)


def test_every_event_is_in_one_place_at_the_end_of_a_run(store, make_workload):
    """With no run open, all that is unsettled is ready."""
    workload = make_workload(99)
    for _ in range(2 * STEPS_A_RUN):
        workload.step()

    workload.next_run()

    for name in TYPES:
        counts = looks.counts(store, name)
        assert counts.unsettled == counts.pending
    assert {state for one in set(workload.pushed) for state in looks.where(store, one)} <= {"ready"}
