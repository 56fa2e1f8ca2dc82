"""`rlm failed`: list, show, retry and drop dead letters, on a real server."""

from __future__ import annotations

import base64
import json

import pytest

from rlm.core.item import Reason, encode_letter
from tests.each import each
from tests.store import steps


def letter(inst, item, reason=Reason.REJECTED, detail="400 from rebalance_api", event=None):
    """Put a dead letter into the list, like a run; return its id."""
    raw = encode_letter(item, reason, detail, failed_at=1703169025.0, run_id="run", event=event)
    inst.store.client.lpush(inst.store.keys.failed, raw)
    return json.loads(raw)["id"]


def letters_of_events(inst, number, type_name=steps.TYPE):
    """Put dead letters of events into the list; return their ids, the oldest first."""
    return [
        letter(inst, item, event=steps.event_id(index, type_name))
        for index, item in enumerate(steps.items(number, type_name), start=1)
    ]


def ids(inst):
    """Return the ids of the existing letters, newest first."""
    return [one["id"] for one in inst.json("failed", "list", "1000")]


# -- list and show


@pytest.mark.parametrize("reason", [Reason.REJECTED, Reason.BAD_VALUE])
@each(
    "damaged",
    [b"garbage", b"", b"\x01packed", b'"\xff"', b'{"a": 1}}', b'null, "id": "forged"', b"[" * 5000 + b"]" * 5000],
)
def test_an_item_that_was_damaged_in_the_ledger_hides_no_letter(inst, reason, damaged):
    """It cannot stand in the JSON of its letter as it is: it is kept whole, shown, refused by a retry, and dropped."""
    handle = letter(inst, damaged, reason, "what happened", event=steps.event_id(1))

    (listed,) = inst.json("failed", "list")
    shown = inst.rlm("failed", "show", handle).stdout
    refused = inst.rlm("failed", "retry", handle, code=1)

    assert listed["id"] == handle
    assert listed["event_id"] == steps.event_id(1)
    assert listed["reason"] in {Reason.NOT_JSON, Reason.NOT_UTF8, Reason.TOO_DEEP}
    assert base64.b64decode(listed["item"]["base64"]) == damaged
    assert "what happened; its item is n" in " ".join(shown.split())
    assert "Traceback" not in refused.output
    assert inst.store.letters.count() == 1
    inst.rlm("failed", "drop", handle, "--yes")
    assert inst.store.letters.count() == 0


# -- retry


def test_an_unknown_id_changes_nothing_at_all(inst):
    """All ids are looked up first: exit 3, naming those that are unknown."""
    (handle,) = letters_of_events(inst, 1)

    for command in ("retry", "drop"):
        done = inst.rlm("failed", command, handle, "nobody", "\x1b[2J", code=3)
        assert "'nobody'" in done.stderr
        assert "\x1b" not in done.stderr
        assert ids(inst) == [handle]


def test_what_cannot_be_retried_says_why_and_the_others_are(inst):
    """A type that is no longer configured, an event that is under way again: exit 1, each with its reason."""
    good = letter(inst, steps.item("i1", steps.TYPE), event=steps.event_id(1))
    former = letter(inst, steps.item("i2", "FORMER"), Reason.UNKNOWN_TYPE, event="i2:FORMER")
    again = letter(inst, steps.item("i3", steps.TYPE), event=steps.event_id(3))
    inst.push(steps.item("i3", steps.TYPE))
    inst.start_run()

    done = inst.json("failed", "retry", good, former, again, code=1)

    assert done["retried"] == [good]
    reasons = {one["id"]: one["reason"] for one in done["refused"]}
    assert "'FORMER' is not a configured type" in reasons[former]
    assert f"rlm failed drop {former}" in reasons[former]
    assert "under way again" in reasons[again]
    assert ids(inst) == [again, former]
