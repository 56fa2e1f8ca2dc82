"""The list of dead letters: read page by page, found by handle, and unharmed by other entries."""

from __future__ import annotations

import json

import pytest

from rlm.admin.letters import find_letters
from rlm.core.errors import NoSuchLetterError
from rlm.core.item import Reason, encode_letter
from rlm.ledger import letters
from tests.store import looks, steps
from tests.store.deadletters import drop, reject, reject_at_intake, retry

#: What a foreign program, a human or a bug may have pushed onto the list.
JUNK = (
    b"",
    b"not json",
    b"\xff\xfe",
    b"null",
    b"[]",
    b'"text"',
    b"{}",
    b'{"id": 7, "reason": "rejected", "event_id": null, "item": {}}',
    b'{"id": "x", "reason": "because", "event_id": null, "item": {}}',
    b'{"id": "x", "reason": "rejected", "item": {}}',
    b'{"id": "\xff", "reason": "rejected", "event_id": null, "item": {}}',
    b'{"id": "x", "reason": "rejected", "event_id": null, "item": "\xff"}',
    b'{"id": "x", "reason": "rejected", "event_id": null, "item": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"id": "x", "reason": "not_json", "event_id": null, "item": {}}',
    b'{"id": "x", "reason": "not_json", "event_id": null, "item": "aGk="}',
    b'{"id": "x", "reason": "not_json", "event_id": null, "item": {"base64": 7}}',
    b'{"id": "x", "reason": "not_json", "event_id": null, "item": {"base64": "a"}}',
)


def write(number, **fields):
    """Write a letter like RLM."""
    raw = steps.item(f"i{number}", steps.TYPE, **fields)
    event = steps.event_id(number)
    return encode_letter(raw, Reason.REJECTED, "422", failed_at=number, run_id="r", event=event)


def test_without_letters_there_is_nothing(store):
    """An empty list has no letters, and none is found."""
    assert store.letters.count() == 0
    assert list(store.letters.all()) == []
    with pytest.raises(NoSuchLetterError):
        find_letters(store, ["0123456789abcdef"])


@pytest.mark.parametrize("number", [1, 9, 10, 11, 20, 25])
def test_all_are_read_newest_first_page_by_page(store, monkeypatch, number):
    """However many there are, with a page of ten, each is read once, in order, and counted."""
    monkeypatch.setattr(letters, "_PAGE", 10)
    written = [write(index) for index in range(number)]
    for letter in written:
        store.client.lpush(store.keys.failed, letter)

    assert list(store.letters.all()) == written[::-1]
    assert store.letters.count() == number


def test_large_letters_are_read_a_few_at_a_time(store, monkeypatch):
    """A page is about a megabyte, so that Redis is not held up by whoever looks."""
    written = [write(index, blob="x" * (100 if index % 50 else 60_000)) for index in range(300)]
    for letter in written:
        store.client.lpush(store.keys.failed, letter)
    for index in range(30):
        written.append(write(index, blob="x" * 60_000))
        store.client.lpush(store.keys.failed, written[-1])
    pages = []
    execute = store.client.execute_command

    def note(*args):
        pages.append(sum(map(len, page := execute(*args))))
        return page

    monkeypatch.setattr(store.client, "execute_command", note)

    assert list(store.letters.all()) == written[::-1]
    assert max(pages) < 2_000_000


def test_a_letter_is_found_by_its_handle(store, token, running):
    """Each letter has a handle of its own, and is found by it as it stands in the list."""
    running(3)
    written = [reject(store) for _ in range(3)]
    handles = [json.loads(letter)["id"] for letter in written]

    assert find_letters(store, handles) == dict(zip(handles, written, strict=True))
    assert len(set(handles)) == 3
    with pytest.raises(NoSuchLetterError, match="No dead letter 'unknown'"):
        find_letters(store, [handles[0], "unknown"])


def test_a_rejected_event_leaves_a_letter_of_the_contract(store, token, running):
    """The letter has the contract's fields and the endpoint that was called, with the item embedded as it came."""
    run = running(1)
    reject(store)

    (letter,) = looks.letters(store)
    assert list(letter) == ["id", "reason", "detail", "failed_at", "run_id", "event_id", "endpoint", "item"]
    assert (letter["reason"], letter["detail"]) == ("rejected", "422")
    assert (letter["run_id"], letter["event_id"]) == (run.id, steps.event_id(1))
    assert letter["item"] == json.loads(steps.item("i1", steps.TYPE))


@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
def test_foreign_entries_do_no_harm(store, token, junk):
    """What is no letter of ours is passed over and left alone, and the letters around it can be read and handled."""
    older = reject_at_intake(store, token, b"older")
    store.client.lpush(store.keys.failed, junk)
    newer = reject_at_intake(store, token, b"newer")

    assert list(store.letters.all()) == [newer, older]
    handle = json.loads(older)["id"]
    assert find_letters(store, [handle])[handle] == older
    assert retry(store, older)
    assert drop(store, newer)
    assert store.client.lrange(store.keys.failed, 0, -1) == [junk]
