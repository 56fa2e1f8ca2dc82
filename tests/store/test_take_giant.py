"""take_giant: a staged item that is too large to be read becomes a dead letter, once."""

from __future__ import annotations

import hashlib

import pytest

from rlm.core.errors import FencedError
from rlm.ledger.quarantine import Giants
from rlm.ledger.scripts import Script
from tests.store import looks, steps

SCRIPT = Script("take_giant")
GIANT = b"G" * 1_000_001


@pytest.fixture
def run(store, token):
    return steps.open_run(store, token)


@pytest.fixture
def giant(store, token, run):
    """The name of a giant that was set aside by a drain that died then."""
    store.client.lpush(store.keys.processing, GIANT)
    return Giants(store, store.keys.processing, 1_000_000).peek(token, 10, 10)[0]


def take(store, token, run_id, name, letter=b'{"id": "x"}'):
    keys = store.keys
    names = [keys.lease, keys.run(run_id), keys.tally(run_id), keys.aside(keys.processing), keys.giant(name)]
    return SCRIPT(store.client, [*names, keys.failed], [token, run_id, name, letter])


def test_it_leaves_a_letter_and_is_counted(store, token, run, giant):
    """Nothing of the giant itself is left."""
    assert take(store, token, run.id, giant) == 1

    assert looks.letters(store) == [{"id": "x"}]
    assert looks.tally(store, run) == {"invalid": 1}
    assert store.intake.waiting() == 0
    assert not store.client.exists(store.keys.giant(giant))


def test_a_repeated_call_changes_nothing(store, token, run, giant):
    """The reply of the first may have been lost."""
    take(store, token, run.id, giant)

    with looks.nothing_changes(store):
        assert take(store, token, run.id, giant) == 0


def test_of_many_at_once_one_does(store, token, run, giant):
    """Ten at the same moment leave one letter."""
    assert sorted(steps.at_once(*[lambda: take(store, token, run.id, giant)] * 10)) == [0] * 9 + [1]

    assert looks.tally(store, run) == {"invalid": 1}


@pytest.mark.parametrize("stale", ["token", "run"])
def test_a_deposed_conductor_changes_nothing(store, token, run, giant, stale):
    """Nor does one whose run is closed."""
    with looks.nothing_changes(store), pytest.raises(FencedError):
        take(store, token - (stale == "token"), run.id + ("x" if stale == "run" else ""), giant)


def test_the_next_drain_takes_what_was_set_aside(store, token, run, giant):
    """First of all, before what is staged; until then it counts as waiting."""
    assert store.intake.waiting() == 1
    steps.push(store, steps.item("i1", steps.TYPE))

    assert steps.drain(store, token, run) == 1

    (letter,) = looks.letters(store)
    assert (letter["reason"], letter["event_id"]) == ("too_large", None)
    assert letter["item"]["bytes"] == len(GIANT)
    assert letter["item"]["sha256"] == hashlib.sha256(GIANT).hexdigest()
    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 1, "invalid": 1}
    assert store.intake.waiting() == 0
