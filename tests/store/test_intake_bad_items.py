"""The drain turns bad items into dead letters with the right reasons, and nothing else suffers."""

from __future__ import annotations

import base64
import json
import re

import pytest

from rlm.core.item import Reason
from tests.store import looks, steps


@pytest.fixture
def run(store, token):
    return steps.open_run(store, token)


def bad(**changes):
    """Return a good item except for these fields; None removes a field."""
    document = {"id": "i1", "wallet_name": "w", "events": [steps.TYPE], **changes}
    return json.dumps({name: value for name, value in document.items() if value is not None}).encode()


BAD_ITEMS = {
    "no JSON": (b"{", Reason.NOT_JSON),
    "empty": (b"", Reason.NOT_JSON),
    "NaN": (bad(n=float("nan")), Reason.NOT_JSON),
    "Infinity": (bad(n=float("inf")), Reason.NOT_JSON),
    "a lone surrogate": (rb'{"id": "i1", "wallet_name": "\ud800", "events": ["REBALANCE_NEEDED"]}', Reason.NOT_JSON),
    "no UTF-8": (b'{"id": "i1", "wallet_name": "\xff", "events": ["REBALANCE_NEEDED"]}', Reason.NOT_UTF8),
    "an array": (b'["REBALANCE_NEEDED"]', Reason.NOT_OBJECT),
    "null": (b"null", Reason.NOT_OBJECT),
    "no id": (bad(id=None), Reason.MISSING_FIELD),
    "no wallet": (bad(wallet_name=None), Reason.MISSING_FIELD),
    "no events": (bad(events=None), Reason.MISSING_FIELD),
    "a number for an id": (bad(id=7), Reason.WRONG_TYPE),
    "a number for a wallet": (bad(wallet_name=7), Reason.WRONG_TYPE),
    "a string for events": (bad(events=steps.TYPE), Reason.WRONG_TYPE),
    "a number among events": (bad(events=[steps.TYPE, 7]), Reason.WRONG_TYPE),
    "a string for a priority": (bad(priority="5"), Reason.WRONG_TYPE),
    "a space in the id": (bad(id="i 1"), Reason.BAD_VALUE),
    "an id too long": (bad(id="i" * 201), Reason.BAD_VALUE),
    "an empty wallet": (bad(wallet_name=""), Reason.BAD_VALUE),
    "a wallet too long": (bad(wallet_name="ö" * 501), Reason.BAD_VALUE),
    "no event at all": (bad(events=[]), Reason.BAD_VALUE),
    "101 types": (bad(events=[f"X{index}" for index in range(101)]), Reason.BAD_VALUE),
    "a priority too high": (bad(priority=101), Reason.BAD_VALUE),
    "half a priority": (bad(priority=0.5), Reason.BAD_VALUE),
    "101 levels": (bad(n=json.loads("[" * 100 + "]" * 100)), Reason.TOO_DEEP),
    "20,000 levels": (b'{"n": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", Reason.TOO_DEEP),
    "a byte too large": (bad(n="x").replace(b'"x"', b'"' + b"x" * 65_473 + b'"'), Reason.TOO_LARGE),
}


@pytest.mark.parametrize(("raw", "reason"), BAD_ITEMS.values(), ids=BAD_ITEMS)
def test_a_bad_item_is_a_dead_letter(store, token, run, raw, reason):
    """It says why, and holds the item, as it stands where JSON allows it; the items around it are taken."""
    steps.push(store, steps.item("before", steps.TYPE), raw, steps.item("after", steps.TYPE))

    assert steps.drain(store, token, run) == 2

    (letter,) = looks.letters(store)
    assert letter["reason"] == reason
    assert letter["detail"]
    assert (letter["run_id"], letter["event_id"]) == (run.id, None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", letter["failed_at"])
    if reason is Reason.TOO_LARGE:
        assert letter["item"] is None
        assert store.client.lrange(letter["aside"], 0, -1) == [raw]
    elif reason in {Reason.NOT_JSON, Reason.NOT_UTF8, Reason.TOO_DEEP}:
        assert base64.b64decode(letter["item"].pop("base64")) == raw
        assert letter["item"] == {}
    else:
        assert letter["item"] == json.loads(raw)
    assert looks.tally(store) == {f"taken:{steps.TYPE}": 2, "invalid": 1}
    assert store.intake.waiting() == 0


def test_what_is_just_good_enough_is_taken(store, token, run):
    """At each bound an item is still good."""
    steps.push(
        store,
        bad(id="i1", priority=0, wallet_name="ö" * 500),
        bad(id="!" * 200, priority=100.0),
        bad(id="i3", n=json.loads("[" * 99 + "]" * 99), events=[steps.TYPE] * 1000),
        bad(id="i4", n="x").replace(b'"x"', b'"' + b"x" * (65_536 - len(bad(id="i4", n=""))) + b'"'),
    )

    assert steps.drain(store, token, run) == 4

    assert looks.letters(store) == []


def test_fields_rlm_does_not_go_by_may_stand_there_twice(store, token, run):
    """They are passed on as they came, and so are fields of RLM's names deeper in the item."""
    raw = bad(n={"id": 1}, m={"id": 2}).replace(b'"m"', b'"n"')
    steps.push(store, raw)

    assert steps.drain(store, token, run) == 1

    assert looks.event(store, steps.event_id(1))["item"] == raw.decode()


def test_an_id_that_is_used_again_with_another_body_is_a_duplicate(store, token, run):
    """The first stands, the second is counted and dropped, in the same drain and in a later one."""
    first, second = bad(n=1), bad(n=2)
    steps.push(store, first, second)

    assert steps.drain(store, token, run) == 1

    assert looks.event(store, steps.event_id(1))["item"] == first.decode()
    assert looks.tally(store) == {f"taken:{steps.TYPE}": 1, "duplicates": 1}


def test_an_unknown_type_does_not_take_the_good_ones_down(store, token, run):
    """All unknown types of an item are one letter, which names them; of a single one it has the event id."""
    raw = steps.item("i1", "UNKNOWN", steps.TYPE, "lower_case", "UNKNOWN", steps.OTHER_TYPE)
    steps.push(store, raw, steps.item("i2", "UNKNOWN"))

    assert steps.drain(store, token, run) == 2

    both, single = looks.letters(store)
    assert (both["reason"], both["event_id"], both["types"]) == ("unknown_type", None, ["UNKNOWN", "lower_case"])
    assert both["item"] == json.loads(raw)
    assert (single["reason"], single["event_id"], single["types"]) == ("unknown_type", "i2:UNKNOWN", ["UNKNOWN"])
    assert looks.tally(store) == {f"taken:{steps.TYPE}": 1, f"taken:{steps.OTHER_TYPE}": 1, "invalid": 2}


def test_letters_have_handles_of_their_own(store, token, run):
    """So that one of two equal bad items can be dropped."""
    steps.push(store, *[b"bad"] * 100)

    steps.drain(store, token, run)

    assert len({one["id"] for one in looks.letters(store)}) == 100


def test_items_too_large_are_moved_aside_unread(store, token, run):
    """One after the other, byte for byte, and the items around them are taken."""
    huge = steps.item("huge", steps.TYPE, more="x" * 10_000_000)
    large = [b"%d" % index + b"x" * 65_536 for index in range(3)]
    steps.push(store, large[0], steps.item("i1", steps.TYPE), huge, large[1], steps.item("i2", steps.TYPE), large[2])

    assert steps.drain(store, token, run) == 2

    letters = looks.letters(store)
    assert [(one["reason"], one["item"], one["aside"]) for one in letters] == [
        ("too_large", None, store.keys.aside)
    ] * 4
    assert "bytes, at most 65536 are accepted (queue.max_item_bytes)" in letters[0]["detail"]
    assert store.client.lrange(store.keys.aside, 0, -1)[::-1] == [large[0], huge, large[1], large[2]]
    assert looks.tally(store) == {f"taken:{steps.TYPE}": 2, "invalid": 4}
    assert looks.pending(store) == steps.event_ids(2)


def test_items_of_many_unknown_types_fill_nothing(store, token, run):
    """3,000 items of 100 unknown types each become 3,000 letters, which take little more than the items did."""
    items = [bad(id=f"i{index}", events=[f"UNKNOWN_TYPE_{one}" for one in range(100)]) for index in range(3000)]
    store.intake.push([*items, bad(id="good")])
    before = store.client.memory_usage(store.keys.events, samples=0)

    assert steps.drain(store, token, run) == 1

    assert looks.tally(store) == {f"taken:{steps.TYPE}": 1, "invalid": 3000}
    assert store.client.memory_usage(store.keys.failed, samples=0) < 3 * before


def test_a_type_that_is_no_valid_name_has_no_event_id(store, token, run):
    """It could be that of another event: `i1` with the type `x:T`, and `i1:x` with the type `T`."""
    names = [f"x:{steps.TYPE}", "", "a b", "\u202e", "x" * 101]
    steps.push(store, *(bad(id=f"i{index}", events=[name]) for index, name in enumerate(names)))

    steps.drain(store, token, run)

    assert [(one["event_id"], one["types"]) for one in looks.letters(store)] == [(None, [name]) for name in names]
