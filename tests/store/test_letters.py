"""The list of dead letters: read page by page, found by handle, and unharmed by other entries."""

from __future__ import annotations

import json

import pytest

from rlm.admin.letters import find_letters
from tests.store.deadletters import drop, reject_at_intake, retry

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
