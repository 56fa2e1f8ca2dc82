"""trim_records: the oldest records leave Redis once they are archived, only by the conductor."""

from __future__ import annotations

import json

import pytest

from rlm.core.errors import FencedError
from tests.store import looks, steps
from tests.values import as_json, record_from


@pytest.fixture
def runs(store, token):
    """The ids of five closed runs, oldest first; each record has its number."""
    ids = []
    for number in range(5):
        run = steps.open_run(store, token)
        steps.finish(store, token, run)
        store.runs.close(run.id, record_from(duration_seconds=number), [], wanted=0)
        ids.append(run.id)
    return ids


def test_the_surplus_is_read_oldest_first(store, runs):
    """Those beyond what is kept, each with its record; none where there are no more than that."""
    assert {one: json.loads(record)["duration_seconds"] for one, record in store.runs.surplus(3).items()} == {
        runs[0]: 0,
        runs[1]: 1,
    }
    assert store.runs.surplus(5) == store.runs.surplus(9) == {}


def test_a_record_that_others_removed_is_null(store, runs):
    """Its id has to go all the same."""
    store.client.hdel(store.keys.records, runs[0])

    assert store.runs.surplus(4) == {runs[0]: b"null"}


def test_the_oldest_are_removed(store, token, runs):
    """From the list and the records; the others stay."""
    assert store.runs.trim(token, runs[:2]) == 2

    assert store.runs.history(10) == runs[:1:-1]
    found = [as_json(store.runs.record(one)) for one in runs]
    assert [one and one["duration_seconds"] for one in found] == [None, None, 2, 3, 4]
    assert store.runs.count() == store.client.hlen(store.keys.records) == 3


def test_a_repeated_call_removes_nothing_more(store, token, runs):
    """The reply of the first may have been lost."""
    store.runs.trim(token, runs[:2])

    with looks.nothing_changes(store):
        assert store.runs.trim(token, runs[:2]) == 0


def test_only_the_oldest_can_be_removed(store, token, runs):
    """What is not at the end of the list was not read as surplus."""
    with looks.nothing_changes(store):
        assert store.runs.trim(token, runs[1:3]) == 0


def test_none_is_none(store, token, runs):
    """An empty list of ids changes nothing."""
    with looks.nothing_changes(store):
        assert store.runs.trim(token, []) == 0


def test_a_deposed_conductor_removes_nothing(store, token, runs):
    """Its token is not the lease's."""
    with looks.nothing_changes(store), pytest.raises(FencedError):
        store.runs.trim(token - 1, runs[:2])


def test_of_many_at_once_each_record_is_removed_once(store, token, runs):
    """Ten calls for the same two: two are removed."""
    removed = steps.at_once(*[lambda: store.runs.trim(token, runs[:2])] * 10)

    assert sum(removed) == 2
    assert store.runs.history(10) == runs[:1:-1]
