"""Retrying a dead letter: in one step the letter is removed and its event joins the next run."""

from __future__ import annotations

import msgspec
import pytest
import redis

from rlm.core.errors import StoreError
from rlm.core.item import BadItemError, Reason
from rlm.ledger.letters import Removal
from rlm.ledger.reading.books import books
from tests.store import looks, steps
from tests.store.deadletters import close, newest, reject, reject_at_intake, retry

EVENT = f"i1:{steps.TYPE}"
DEEP = b"[" * 200 + b"]" * 200

#: Items that become letters without an event, by the reason.
BAD_ITEMS = {
    "not_json": b"{not json",
    "not_utf8": b'{"id": "\xff\xfe"}',
    "not_object": b'[1, "two"]',
    "missing_field": '{"id": "i9",  "wallet_name": "Ünï"}'.encode(),
    "wrong_type": b'{"id":"i9","wallet_name":"w","events":[7]}',
    "bad_value": b'{"id":"i 9","wallet_name":"w","events":["X"]}',
    "too_deep": b'{"id":"i9","wallet_name":"w","events":["X"],"deep":' + DEEP + b"}",
}


def test_the_event_is_ready_with_nothing_behind_it(store, letter):
    """The letter is gone; the event is ready, its attempts, runs and last endpoint forgotten."""
    assert retry(store, letter)

    assert looks.letters(store) == []
    assert looks.where(store, EVENT) == ["ready"]
    event = looks.event(store, EVENT)
    assert set(event) == {"wallet", "item", "score", "taken_at"}
    assert event["wallet"] == "wallet of i1"
    assert event["item"].encode() == steps.item("i1", steps.TYPE)
    assert store.client.ttl(store.keys.event(EVENT)) == -1


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
    assert books(store).faults == []
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


def test_the_second_retry_finds_it_gone(store, letter):
    """Retrying the same letter again is False and changes nothing."""
    assert retry(store, letter)

    with looks.nothing_changes(store):
        assert not retry(store, letter)


def test_a_retried_event_is_no_duplicate_but_its_id_arriving_again_is(store, token, letter):
    """The retry is without dedupe; an item with the same id that arrives meanwhile is one."""
    retry(store, letter)
    steps.push(store, steps.item("i1", steps.TYPE))

    steps.start_run(store, token)

    assert looks.tally(store) == {f"taken:{steps.TYPE}": 1, "duplicates": 1}
    assert looks.pending(store) == [EVENT]


def test_an_event_that_is_under_way_again_is_not_retried(make_store, token):
    """Where the same id was taken anew after its dedupe time, the old letter's retry is False and the letter stays."""
    store = make_store(queue={"dedupe_seconds": 0})
    steps.push(store, steps.item("i1", steps.TYPE))
    run = steps.start_run(store, token)
    letter = reject(store)
    close(store, token, run)
    steps.push(store, steps.item("i1", steps.TYPE))
    steps.start_run(store, token)

    with looks.nothing_changes(store):
        assert not retry(store, letter)

    assert newest(store) == letter
    assert looks.pending(store) == [EVENT]


@pytest.mark.parametrize("reason", BAD_ITEMS)
def test_a_letter_without_an_event_puts_its_item_back(store, token, reason):
    """The item stands on the audit list again, byte for byte, behind those that wait there; the letter is gone."""
    letter = reject_at_intake(store, token, BAD_ITEMS[reason])
    assert [(one["reason"], one["event_id"]) for one in looks.letters(store)] == [(reason, None)]
    steps.push(store, b"waits")

    assert retry(store, letter)

    assert store.client.lrange(store.keys.events, 0, -1) == [BAD_ITEMS[reason], b"waits"]
    assert looks.letters(store) == []
    assert not retry(store, letter)
    assert store.client.llen(store.keys.events) == 2


def test_an_item_that_was_moved_aside_stays_there(store, token):
    """Its letter says where; only somebody who can read it can send it."""
    letter = reject_at_intake(store, token, b"x" * 70_000)

    with looks.nothing_changes(store), pytest.raises(BadItemError, match=f"moved aside unread, to {store.keys.aside}"):
        retry(store, letter)


def test_a_letter_of_several_types_becomes_the_events_of_those_that_are_known_by_then(store, token):
    """It stays for the others, with the same id, and is removed with the last of them."""
    raw = steps.item("i1", "NEW_A", steps.TYPE, "no name", "NEW_B", amount=1.5)
    letter = reject_at_intake(store, token, raw)
    (before,) = looks.letters(store)

    assert retry(store, letter, {"NEW_B": 3})

    (rest,) = looks.letters(store)
    assert rest == before | {"types": ["NEW_A", "no name"], "detail": rest["detail"]}
    assert rest["detail"].startswith("'NEW_A', 'no name' are no")
    assert looks.where(store, "i1:NEW_B") == ["ready"]
    assert looks.event(store, "i1:NEW_B")["item"].encode() == raw
    with looks.nothing_changes(store), pytest.raises(BadItemError, match="configured type"):
        retry(store, newest(store), {"NEW_B": 3})
    assert retry(store, newest(store), {"NEW_A": 1, "no name": 1})
    assert looks.letters(store) == []
    assert looks.where(store, "i1:NEW_A") == ["ready"]


def test_an_event_of_a_letter_that_is_under_way_stands(store, token):
    """It was pushed again by somebody, and is not doubled; the letter's other events are made."""
    letter = reject_at_intake(store, token, steps.item("i1", "NEW_A", "NEW_B"))
    assert retry(store, reject_at_intake(store, token, steps.item("i1", "NEW_A")), {"NEW_A": 1})
    before = looks.event(store, "i1:NEW_A")

    assert retry(store, letter, {"NEW_A": 1, "NEW_B": 1})

    assert looks.letters(store) == []
    assert looks.event(store, "i1:NEW_A") == before
    assert looks.where(store, "i1:NEW_B") == ["ready"]


@pytest.mark.parametrize("types", [["NEW_A", "OTHER"], ["OTHER"]])
def test_types_that_are_not_its_items_are_never_taken_over(store, token, types):
    """Somebody else wrote that letter."""
    letter = reject_at_intake(store, token, steps.item("i1", "NEW_A", "NEW_B"))
    forged = msgspec.json.encode({**msgspec.json.decode(letter), "types": types})
    store.client.lpush(store.keys.failed, forged)

    with looks.nothing_changes(store), pytest.raises(BadItemError, match="not of its item"):
        retry(store, forged, dict.fromkeys(["NEW_A", "OTHER"], 1))


def test_a_type_that_is_not_configured_cannot_be_retried(store, token):
    """The message names the type, and the letter stays until the type is configured."""
    letter = reject_at_intake(store, token, steps.item("i1", "GONE"))

    with looks.nothing_changes(store), pytest.raises(BadItemError, match="'GONE' is not a configured type") as caught:
        retry(store, letter)
    assert caught.value.reason is Reason.UNKNOWN_TYPE

    assert retry(store, letter, {"GONE": 3})
    assert looks.where(store, "i1:GONE") == ["ready"]
    assert "GONE" in store.known_types
    steps.open_run(store, token)
    assert looks.tally(store) == {"taken:GONE": 1}


def test_only_the_events_of_its_own_letter_are_retried(store, token):
    """An item with two types of which one failed: retrying it does not repeat the other."""
    steps.push(store, steps.item("i1", steps.TYPE, steps.OTHER_TYPE))
    run = steps.start_run(store, token)
    letter = reject(store)
    other = steps.claim(store)
    assert (other.type, steps.complete(store, other)) == (steps.OTHER_TYPE, True)
    close(store, token, run)

    assert retry(store, letter)

    run = steps.start_run(store, token)
    assert looks.tally(store) == {f"taken:{steps.TYPE}": 1}


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


def test_a_letter_whose_item_was_lost_says_so(store, token, letter):
    """A letter of ours in which somebody replaced the item by something else cannot be retried, and stays."""
    broken = letter.replace(steps.item("i1", steps.TYPE), b"null")
    store.client.lpush(store.keys.failed, broken)

    with looks.nothing_changes(store), pytest.raises(BadItemError, match="but no object"):
        retry(store, broken)


def test_many_are_retried_in_their_order(store, token, running):
    """Those that cannot be are told of in their place and stay; of two letters of one event the second stays."""
    run = running(3)
    first, second, third = (reject(store) for _ in range(3))
    close(store, token, run)
    store.client.lpush(store.keys.failed, first, unknown := first.replace(f":{steps.TYPE}".encode(), b":GONE"))
    written = [first, second, third, first, unknown]

    *done, refused = store.letters.retry(written, steps.priorities(store))

    assert done == [Removal.DONE, Removal.DONE, Removal.DONE, Removal.UNDER_WAY]
    assert isinstance(refused, BadItemError)
    assert list(store.letters.all()) == [unknown, first]
    steps.start_run(store, token)
    assert looks.pending(store) == [steps.event_id(number) for number in (1, 2, 3)]


@pytest.mark.parametrize("damaged", ["event", "ready", "tally", "events"])
def test_a_damaged_key_leaves_all_as_it_is(store, token, running, damaged):
    """Neither is a letter lost, nor does anything stand in its place."""
    run = running(1)
    letter = reject(store)
    close(store, token, run)
    if damaged == "events":
        letter = reject_at_intake(store, token, b"{not json")
    of = {"event": store.keys.event(steps.event_id(1)), "ready": store.keys.ready(steps.TYPE)}
    store.client.set(of.get(damaged) or getattr(store.keys, damaged), "damaged")

    with looks.nothing_changes(store), pytest.raises(StoreError, match="WRONGTYPE"):
        retry(store, letter)
