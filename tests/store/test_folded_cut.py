"""The drain of a deep backlog takes the same as any other, wherever it is cut; what is written late is nobody's."""

from __future__ import annotations

import hashlib
import json

import pytest
import redis

from rlm.core.errors import FencedError, StoreUnreachableError
from rlm.core.run import State
from rlm.ledger import intake, quarantine
from rlm.ledger.reading.books import books
from rlm.ledger.scripts import Script
from tests.store import deadletters, folding, looks, steps
from tests.store.cutclient import CutClient
from tests.store.folding import WRITE, drain_by, folded_events
from tests.values import replace

GIANT = b"G" * 70_000
#: What a drain of the scenario asks of Redis, and how often it writes a chunk folded, or tries to, meanwhile.
CALL_SITES = 40
WRITES = 9


@pytest.fixture
def run(store, token):
    return steps.open_run(store, token)


@pytest.fixture
def scenario(store, run, monkeypatch):
    """Two items a chunk: two left in staging by a crash, and others, some bad, some duplicates, of several types."""
    monkeypatch.setattr(intake, "CHUNK_ITEMS", 2)
    monkeypatch.setattr(intake, "longest_item", lambda max_item_bytes: max_item_bytes)
    monkeypatch.setattr(quarantine, "PIECE_BYTES", 30_000)
    for name in ("stage_items", "peek_items", "take_chunk", "take_folded", "take_giant"):
        store.client.script_load(Script(name).source)
    folding.stage(store, *steps.items(2, steps.TYPE))
    steps.push(
        store,
        *steps.items(4, steps.TYPE, steps.OTHER_TYPE, first=3),
        *(steps.item("i7", steps.TYPE, priority=100), steps.item("i7", steps.TYPE)),  # twice in a chunk
        *(steps.item("i1", steps.TYPE), steps.item("i8", steps.TYPE)),  # known
        *(b"bad", steps.item("i9", steps.OTHER_TYPE)),
        *steps.items(4, steps.TYPE, first=10),
        GIANT,
        *steps.items(3, steps.OTHER_TYPE, first=14),
    )
    return run


def writes(store):
    return store.client.info("commandstats").get(f"cmdstat_{WRITE.lower()}", {"calls": 0})["calls"]


def assert_drained_once(store, run):
    """Check that the ledger has the scenario, nothing lost, nothing doubled, and no string without a place."""
    assert looks.pending(store) == [steps.event_id(number) for number in (7, *range(1, 7), 8, *range(10, 14))]
    others = (*range(3, 7), 9, *range(14, 17))
    assert looks.pending(store, steps.OTHER_TYPE) == [steps.event_id(number, steps.OTHER_TYPE) for number in others]
    assert sorted(one["reason"] for one in looks.letters(store)) == ["not_json", "too_large"]
    digests = {one["item"]["sha256"] for one in looks.letters(store) if "bytes" in one["item"]}
    assert digests == {hashlib.sha256(GIANT).hexdigest()}
    assert looks.tally(store, run) == {
        f"taken:{steps.TYPE}": 12,
        f"taken:{steps.OTHER_TYPE}": 8,
        "duplicates": 2,
        "invalid": 2,
    }
    assert store.intake.waiting() == 0
    assert folded_events(store)[1] == set()
    assert books(store).faults == []


def assert_all_are_sent(store, token, run):
    """Check that each event is claimed once, with its own item."""
    steps.put_into(store, run, State.RUNNING)
    for name in (steps.TYPE, steps.OTHER_TYPE):
        for one in looks.pending(store, name):
            claim = steps.claim_next(store, token, replace(run, state=State.RUNNING), type_name=name)
            assert (claim.event_id, json.loads(claim.item)["id"]) == (one, one.partition(":")[0])
            assert store.turns.complete(steps.completed(claim))


def test_it_takes_what_another_drain_takes(store, token, scenario):
    """In the same order; folded but for the chunks that were not read behind another, known events and letters."""
    taken = drain_by(store, store.client, token, scenario)

    assert sum(taken) == 20
    assert_drained_once(store, scenario)
    found = {int(one.partition(":")[0][1:]) for one in folded_events(store)[0]}
    assert found == {*range(5, 12), *range(14, 17)}
    assert_all_are_sent(store, token, scenario)


def test_the_scenario_has_these_call_sites(store, token, scenario):
    """If the drain ever makes more calls, there are more places to cut it."""
    client, written = CutClient(store.client), writes(store)

    drain_by(store, client, token, scenario)

    assert (client.calls, writes(store) - written) == (CALL_SITES, WRITES)


@pytest.mark.parametrize("applied", [False, True], ids=["request lost", "reply lost"])
@pytest.mark.parametrize("at", range(1, CALL_SITES + 1))
def test_a_drain_cut_anywhere_is_resumed(store, token, scenario, at, applied):
    """By the same conductor, folding on: whether the server had the last command or not, each item counts once."""
    with pytest.raises(StoreUnreachableError):
        drain_by(store, CutClient(store.client, at=at, applied=applied), token, scenario)

    drain_by(store, store.client, token, scenario)

    assert_drained_once(store, scenario)


@pytest.mark.rest
@pytest.mark.parametrize("applied", [False, True], ids=["request lost", "reply lost"])
@pytest.mark.parametrize("at", range(1, CALL_SITES + 1))
def test_a_drain_cut_anywhere_is_resumed_by_a_successor(store, token, scenario, at, applied):
    """Which has too few items left to fold any; the first conductor, should it come back, is fenced."""
    with pytest.raises(StoreUnreachableError):
        drain_by(store, CutClient(store.client, at=at, applied=applied), token, scenario)
    successor = steps.take_over(store)

    drain_by(store, store.client, successor, scenario, fold=False)
    with looks.nothing_changes(store), pytest.raises(FencedError):
        drain_by(store, store.client, token, scenario)

    assert_drained_once(store, scenario)


class FailedOverClient(CutClient):
    """A client of whose server one of the chunks is lost once it is written: the replica did not have it yet."""

    def __init__(self, client, number):
        super().__init__(client)
        self._left = number

    def execute_command(self, *args):
        reply = super().execute_command(*args)
        if args[0] == WRITE and reply:
            self._left -= 1
            if not self._left:
                assert self._client.delete(*args[1::2]) == len(args) // 2
        return reply


@pytest.mark.parametrize("number", range(1, WRITES))  # one of them writes nothing
def test_what_a_fail_over_loses_between_the_two_steps_is_taken_anew(store, token, scenario, number):
    """Its items are still staged: no event has a place and no item, and each is sent."""
    client = FailedOverClient(store.client, number)

    assert sum(drain_by(store, client, token, scenario)) == 20

    assert client._left <= 0
    assert_drained_once(store, scenario)
    assert_all_are_sent(store, token, scenario)


class LateClient(CutClient):
    """A client of which one of the commands that write events is under way for long: `arrive()` lets it arrive."""

    def __init__(self, client, number):
        super().__init__(client)
        self._left = number
        self.arrive = None

    def execute_command(self, *args):
        self._left -= args[0] == WRITE
        if self._left or args[0] != WRITE:
            return super().execute_command(*args)
        self.arrive = lambda: self._client.execute_command(*args)
        raise redis.TimeoutError("no answer")


@pytest.mark.parametrize("moment", ["before a successor drains", "between two of its chunks", "after it has drained"])
@pytest.mark.parametrize("number", range(1, WRITES + 1))
def test_what_a_deposed_conductor_writes_late_is_nobodys(store, token, scenario, number, moment):
    """It is not fenced; but it writes nothing if anything is known, and else what has no place."""
    late = LateClient(store.client, number)
    with pytest.raises(StoreUnreachableError):
        drain_by(store, late, token, scenario)
    successor = steps.take_over(store)

    if moment.startswith("before"):
        late.arrive()
    for chunk, _ in enumerate(store.intake.drain(successor, scenario.id, steps.priorities(store), fold=True)):
        if chunk == 1 and moment.startswith("between"):
            late.arrive()
    if moment.startswith("after"):
        with looks.nothing_changes(store):
            assert not late.arrive()

    assert_drained_once(store, scenario)
    assert_all_are_sent(store, successor, scenario)


def test_what_is_written_for_events_that_are_settled_and_forgotten_does_no_harm(make_store, token, run, monkeypatch):
    """It has no place: no lane gets it, no run counts it, and if its id comes again it is a new event."""
    monkeypatch.setattr(intake, "CHUNK_ITEMS", 2)
    store, items = make_store(queue={"dedupe_seconds": 0}), steps.items(4, steps.TYPE)
    steps.push(store, *items)
    late = LateClient(store.client, 1)
    with pytest.raises(StoreUnreachableError):
        drain_by(store, late, token, run)
    steps.drain(store, token, run)
    assert_all_are_sent(store, token, run)
    assert late.arrive()
    steps.finish(store, token, run)
    store.runs.close(run.id, {}, [steps.TYPE], wanted=0)

    steps.push(store, *items)
    run = steps.start_run(store, token)

    assert looks.tally(store, run) == {f"taken:{steps.TYPE}": 4}
    assert looks.pending(store) == steps.event_ids(4)
    assert folded_events(store) == (set(), set())


def test_strays_of_a_run_that_was_closed_are_taken_by_the_next(store, token, scenario):
    """What was staged stays for it, whatever a drain of the first run had written of it."""
    late = LateClient(store.client, 2)
    with pytest.raises(StoreUnreachableError):
        drain_by(store, late, token, scenario)
    assert late.arrive()
    taken = sum(looks.tally(store, scenario)[f"taken:{name}"] for name in (steps.TYPE, steps.OTHER_TYPE))
    deadletters.close(store, token, scenario)

    run = steps.open_run(store, token)
    drain_by(store, store.client, token, run)

    found = looks.tally(store, run)
    assert sum(found[f"carried:{name}"] for name in (steps.TYPE, steps.OTHER_TYPE)) == taken
    assert sum(found[f"taken:{name}"] for name in (steps.TYPE, steps.OTHER_TYPE)) == 20 - taken
    assert folded_events(store)[1] == set()
    assert len(looks.pending(store)) + len(looks.pending(store, steps.OTHER_TYPE)) == 20
