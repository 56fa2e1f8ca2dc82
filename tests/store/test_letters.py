"""Dead letters: a retry makes the event ready in the step that removes the letter; a drop forgets it."""

from __future__ import annotations

import json

import msgspec
import pytest
import redis

from rlm.admin.letters import Deal, LetterFilter, deal_with
from rlm.core.errors import StoreError
from rlm.core.item import BadItemError, Reason, encode_letter
from rlm.ledger.books import books
from tests.store import looks, steps
from tests.store.deadletters import close, drop, newest, outlived, reject, reject_at_intake, retry

EVENT = f"i1:{steps.TYPE}"


def test_it_counts_as_taken_of_the_next_run(store, token, letter):
    """The run that opens next has it as taken and not as carried over, ready like the others."""
    retry(store, letter)
    assert looks.tally(store) == {f"taken:{steps.TYPE}": 1}

    steps.start_run(store, token)

    assert looks.tally(store) == {f"taken:{steps.TYPE}": 1}
    assert looks.where(store, EVENT) == ["ready"]
    claim = steps.claim(store)
    assert (claim.event_id, claim.attempt, claim.tries, claim.runs) == (EVENT, 0, 0, 0)
    assert claim.item == steps.item("i1", steps.TYPE)


def test_the_run_under_way_takes_it(store, token, running):
    """It is in that run's books, and the lanes are woken for it: nothing else waits."""
    running(1)
    letter = reject(store)
    before = looks.tally(store)

    with redis.Redis.from_url(store.url) as client, client.pubsub(ignore_subscribe_messages=True) as woken:
        woken.subscribe(store.keys.wake("workers"))
        woken.get_message(timeout=5)  # that it listens
        assert retry(store, letter)
        assert woken.get_message(timeout=5)

    assert looks.tally(store) == before | {f"taken:{steps.TYPE}": 2}
    assert books(store).faults() == []
    assert steps.claim(store).event_id == EVENT


def test_it_stands_in_line_by_its_priority_and_then_as_a_newcomer(store, token):
    """An item's own priority places the retried event; among equals it comes after those that waited already."""
    steps.push(
        store,
        *(
            steps.item(f"i{number}", steps.TYPE, priority=priority)
            for number, priority in ((1, 7), (2, 7), (3, 9), (4, 5))
        ),
    )
    run = steps.start_run(store, token)
    third, first = reject(store), reject(store)
    close(store, token, run)

    assert retry(store, first)
    assert retry(store, third)

    steps.start_run(store, token)
    assert looks.pending(store) == [steps.event_id(number) for number in (3, 2, 1, 4)]


def test_an_event_that_is_under_way_again_is_not_retried(make_store, token):
    """Where the same id was taken anew after its dedupe time, the old letter's retry is False and the letter stays."""
    store = make_store(queue={"dedupe_seconds": 0})
    letter = outlived(store, token)

    with looks.nothing_changes(store):
        assert not retry(store, letter)

    assert newest(store) == letter
    assert looks.pending(store) == [EVENT]


@pytest.mark.parametrize("types", [["NEW_A", "OTHER"], ["OTHER"]])
def test_types_that_are_not_its_items_are_never_taken_over(store, token, types):
    """Somebody else wrote that letter."""
    letter = reject_at_intake(store, token, steps.item("i1", "NEW_A", "NEW_B"))
    forged = msgspec.json.encode({**msgspec.json.decode(letter), "types": types})
    store.client.lpush(store.keys.failed, forged)

    with looks.nothing_changes(store), pytest.raises(BadItemError, match="not of its item"):
        retry(store, forged, dict.fromkeys(["NEW_A", "OTHER"], 1))


@pytest.mark.parametrize(
    "event", [f"i1\r\nX-Evil: 1:{steps.TYPE}", f"i2:{steps.TYPE}", f"i1:x:{steps.TYPE}", f"\x1b[2J:{steps.TYPE}"]
)
def test_an_event_id_that_is_not_its_items_is_never_taken_over(store, letter, event):
    """A letter that somebody else wrote cannot put text of its own into keys and headers."""
    forged = msgspec.json.encode({**msgspec.json.decode(letter), "event_id": event})
    store.client.lpush(store.keys.failed, forged)

    with pytest.raises(BadItemError, match="not of its item"):
        retry(store, forged)

    assert not store.client.exists(store.keys.event(event))
    assert store.letters.count() == 2


@pytest.mark.parametrize("damaged", ["event", "events"])
def test_a_damaged_key_leaves_all_as_it_is(store, token, running, damaged):
    """Neither is a letter lost, nor does anything stand in its place."""
    run = running(1)
    letter = reject(store)
    close(store, token, run)
    if damaged == "events":
        letter = reject_at_intake(store, token, b"{not json")
    key = store.keys.events if damaged == "events" else store.keys.event(steps.event_id(1))
    store.client.set(key, "damaged")

    with looks.nothing_changes(store), pytest.raises(StoreError, match="WRONGTYPE"):
        retry(store, letter)


@pytest.mark.parametrize("damaged", ["ready", "tally"])
def test_a_damaged_key_of_the_ledger_loses_nothing(store, letter, damaged):
    """The event is ready, in place of what stood there."""
    store.client.set(store.keys.ready(steps.TYPE) if damaged == "ready" else store.keys.tally, "damaged")

    assert retry(store, letter)

    assert looks.pending(store) == steps.event_ids(1)


def test_an_event_that_is_under_way_again_is_not_forgotten(make_store, token):
    """Where the same id was taken anew after its dedupe time, only the old letter goes."""
    store = make_store(queue={"dedupe_seconds": 0})
    letter = outlived(store, token)

    assert drop(store, letter)

    assert looks.letters(store) == []
    assert steps.claim(store).event_id == EVENT


def test_a_letter_does_not_take_another_events_memory_with_it(store, token, running):
    """`i1` with the unknown type `x:TYPE` is not `i1:x` with the type TYPE, whatever id a letter names."""
    steps.push(store, steps.item("i1:x", steps.TYPE))
    run = steps.start_run(store, token)
    assert steps.complete(store, steps.claim(store))
    close(store, token, run)
    letter = reject_at_intake(store, token, steps.item("i1", f"x:{steps.TYPE}"))
    older = json.dumps({**json.loads(letter), "event_id": f"i1:x:{steps.TYPE}"}).encode()  # as RLM wrote them once
    store.client.lpush(store.keys.failed, older)

    assert drop(store, letter)
    assert drop(store, older)

    assert looks.letters(store) == []
    assert looks.event(store, f"i1:x:{steps.TYPE}").keys() >= {"trail"}


def test_a_search_drops_what_it_lists(store):
    """One letter was dropped that the count before had left out, and one kept instead."""
    for item, why in (
        (b'[{"id":"x"}]', Reason.NOT_OBJECT),
        (b'{"id":1}', Reason.WRONG_TYPE),
        (b"[1]", Reason.NOT_OBJECT),
    ):
        detail = '"id" is no text' if why is Reason.WRONG_TYPE else "an array"
        store.client.lpush(store.keys.failed, encode_letter(item, why, detail, failed_at=1.0, run_id=None, event=None))
    chosen = LetterFilter(search='"id"')
    listed = [json.loads(one)["id"] for one in chosen.find(store)]

    assert deal_with(store, Deal.DROP, chosen, 100).dropped == (*listed[::-1],)
    assert len(listed) == 2
