"""Counting workers that ended unexpectedly: each once, however often it is reported."""

from __future__ import annotations


def test_each_worker_is_counted_once(store):
    """A supervisor that does not know whether it was heard tells again, and of more by then."""
    assert store.processes.count_restarts(["w1", "w2"]) == 2

    assert store.processes.count_restarts(["w1", "w2", "w3"]) == 1

    assert store.processes.restarts() == 3


def test_a_worker_told_of_twice_at_once_is_counted_once(store):
    """As where two of its threads ended it."""
    assert store.processes.count_restarts(["w1", "w1"]) == 1


def test_the_mark_of_a_worker_goes_by_itself(store):
    """It need not outlast those who tell."""
    store.processes.count_restarts(["w1"])

    assert 0 < store.client.pttl(store.keys.restarted("w1")) <= 3_600_000
