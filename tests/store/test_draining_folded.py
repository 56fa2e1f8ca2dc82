"""The drain of a deep backlog: what of it is folded, what makes it write anew, and who goes on with it."""

from __future__ import annotations

import pytest
import redis

from rlm.core.errors import StoreError
from rlm.ledger import drain as drains
from rlm.ledger import intake
from rlm.ledger.drain import Drain
from rlm.ledger.scripts import Script
from tests.store import folding, looks, steps
from tests.store.folding import WRITE, drain_by, folded_events


@pytest.fixture
def run(store, token):
    return steps.open_run(store, token)


@pytest.mark.parametrize("fold", [(True, True), (True, False)])
def test_two_conductors_with_one_token_take_each_item_once(store, token, run, monkeypatch, fold):
    """By a fault of ours both drain the same run: what each of them took adds up to what there was."""
    monkeypatch.setattr(intake, "CHUNK_ITEMS", 2)
    steps.push(store, *steps.items(60, steps.TYPE), *steps.items(10, steps.TYPE))

    taken = steps.at_once(*[lambda one=one: drain_by(store, store.client, token, run, fold=one) for one in fold])

    assert sum(map(sum, taken)) == 60
    assert looks.pending(store) == steps.event_ids(60)
    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 60, "duplicates": 10}
    assert folded_events(store)[1] == set()


def test_items_that_are_staged_by_hand_meanwhile_are_taken(store, token, run, monkeypatch):
    """Staging is longer than when its items were read: they are read again, and what was written is written anew."""
    monkeypatch.setattr(intake, "CHUNK_ITEMS", 2)
    folding.stage(store, *steps.items(9, steps.TYPE))
    taken = []

    for number in store.intake.drain(token, run.id, steps.priorities(store), fold=True):
        taken.append(number)
        if len(taken) in (1, 3):
            folding.stage(store, *steps.items(1, steps.TYPE, first=9 + len(taken)))

    assert sum(taken) == 11
    assert looks.pending(store) == [steps.event_id(number) for number in (*range(1, 11), 12)]
    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 11}
    assert folded_events(store)[1] == set()


@pytest.mark.parametrize("refused", [WRITE, "take_folded"])
def test_what_redis_refuses_is_taken_once_it_is_mended(store, token, run, monkeypatch, refused):
    """As when it is out of memory, at either of the two steps; the caller goes on with the same drain."""
    monkeypatch.setattr(intake, "CHUNK_ITEMS", 2)
    monkeypatch.setattr(drains, "DEEP_ITEMS", 0)
    steps.push(store, *steps.items(9, steps.TYPE))
    drain = Drain(store, token, run)
    drain.work(0.0)
    execute, ask = store.client.execute_command, store.client.ask
    oom = redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'")

    def refusing(*args, **options):
        if refused in args or (refused == "take_folded" and Script(refused).sha in args):
            raise oom
        return (ask if options.pop("asked", False) else execute)(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(store.client, "execute_command", refusing)
        patch.setattr(store.client, "ask", lambda *args: refusing(*args, asked=True))
        with pytest.raises(StoreError):
            drain.work(60.0)
    assert not drain.over
    drain.work(60.0)

    assert drain.over
    assert looks.pending(store) == steps.event_ids(9)
    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 9}
    assert folded_events(store)[1] == set()


@pytest.mark.parametrize(("deep", "folds"), [(5, False), (4, True)])
def test_only_a_deep_backlog_is_folded(store, token, run, monkeypatch, deep, folds):
    """Of which older versions are told before anything is written: all others know what every version reads."""
    monkeypatch.setattr(intake, "CHUNK_ITEMS", 2)
    monkeypatch.setattr(drains, "DEEP_ITEMS", deep)
    steps.push(store, *steps.items(5, steps.TYPE))

    drain = Drain(store, token, run)
    drain.work(60.0)

    assert (drain.over, drain.taken[steps.TYPE]) == (True, 5)
    assert bool(folded_events(store)[0]) == folds


def test_who_takes_a_deep_run_over_with_few_items_left_writes_hashes(store, token, run, monkeypatch):
    """And takes those anew that have no place; what is folded stays."""
    monkeypatch.setattr(intake, "CHUNK_ITEMS", 2)
    monkeypatch.setattr(drains, "DEEP_ITEMS", 6)
    steps.push(store, *steps.items(8, steps.TYPE))
    drain = Drain(store, token, run)
    drain.work(0.0)
    drain.work(0.0)
    folding.leave_strays(store, run, *steps.items(1, steps.TYPE, first=9))

    after = Drain(store, steps.take_over(store), run)
    after.work(60.0)

    assert (after.over, after.taken[steps.TYPE]) == (True, 9)
    assert looks.pending(store) == steps.event_ids(9)
    assert folded_events(store) == ({steps.event_id(3), steps.event_id(4)}, set())
