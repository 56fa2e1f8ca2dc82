"""Dropping a dead letter: it is removed for good, and its event forgotten."""

from __future__ import annotations

import json

from rlm.admin.deal import Deal, Dealing
from rlm.admin.letters import LetterFilter
from rlm.core.item import Reason, encode_letter
from tests.store import looks, steps
from tests.store.deadletters import close, drop, reject, reject_at_intake, retry

EVENT = f"i1:{steps.TYPE}"


def taken(store, token):
    """Push an item with the same id and see what the next run makes of it."""
    steps.push(store, steps.item("i1", steps.TYPE))
    steps.start_run(store, token)
    return looks.tally(store)


def test_the_letter_and_its_event_are_gone(store, letter):
    """Nothing of it is left, neither the letter nor the event's id."""
    assert drop(store, letter)

    assert looks.letters(store) == []
    assert looks.event(store, EVENT) == {}


def test_the_same_id_can_be_taken_again_after_a_drop(store, token, letter):
    """An item with that id that arrives then is a new one."""
    drop(store, letter)

    assert taken(store, token) == {f"taken:{steps.TYPE}": 1}


def test_the_second_drop_finds_it_gone(store, letter):
    """Dropping the same letter again is False and changes nothing."""
    assert drop(store, letter)

    with looks.nothing_changes(store):
        assert not drop(store, letter)


def test_the_other_letters_stay(store, token, running):
    """Of three letters the middle one is dropped, the others and their events are kept."""
    running(3)
    first, second, third = (reject(store) for _ in range(3))

    assert drop(store, second)

    assert list(store.letters.all()) == [third, first]
    assert looks.event(store, steps.event_id(1))
    assert not looks.event(store, steps.event_id(2))


def test_an_event_that_is_under_way_again_is_not_forgotten(make_store, token):
    """Where the same id was taken anew after its dedupe time, only the old letter goes."""
    store = make_store(queue={"dedupe_seconds": 0})
    steps.push(store, steps.item("i1", steps.TYPE))
    run = steps.start_run(store, token)
    letter = reject(store)
    close(store, token, run)
    steps.push(store, steps.item("i1", steps.TYPE))
    run = steps.start_run(store, token)

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
    assert looks.event(store, f"i1:x:{steps.TYPE}")["state"] == "completed"


def test_only_the_letter_with_which_an_event_failed_takes_its_memory(store, token, letter):
    """An older letter of the same event goes alone, and so does one of an event that was completed since."""
    retry(store, letter)
    store.client.lpush(store.keys.failed, letter)  # somebody put it back
    run = steps.start_run(store, token)
    newer = reject(store)
    close(store, token, run)

    assert drop(store, letter)
    assert looks.event(store, EVENT)["state"] == "failed"

    assert drop(store, newer)
    assert looks.event(store, EVENT) == {}


def test_many_are_dropped_in_one_step_among_others_that_stay(store, token, running):
    """Each in its place; the others keep their order, and their events are remembered."""
    running(6)
    written = [reject(store) for _ in range(6)]  # the oldest first

    assert store.letters.drop([written[older] for older in (1, 2, 4)]) == [1, 1, 1]

    assert list(store.letters.all()) == [written[5], written[3], written[0]]
    known = {number for number in range(1, 7) if looks.event(store, steps.event_id(number))}
    assert known == {1, 4, 6}


def test_a_search_drops_what_it_lists(store):
    """One letter was dropped that the count before had left out, and one kept instead."""
    for item, why in (
        (b'[{"id":"x"}]', Reason.NOT_OBJECT),
        (b'{"id":1}', Reason.WRONG_TYPE),
        (b"[1]", Reason.NOT_OBJECT),
    ):
        detail = '"id" is no text' if why is Reason.WRONG_TYPE else "an array"
        store.client.lpush(store.keys.failed, encode_letter(item, why, detail, failed_at=1.0, run_id=None, event=None))
    dealing = Dealing(Deal.DROP, chosen=LetterFilter(text='"id"'))
    listed = [json.loads(one)["id"] for one in dealing.chosen.find(store)]

    assert dealing.count(store) == (2, 0, 0)
    assert [one.id for one in dealing.carry_out(store, 100)] == listed[::-1]
