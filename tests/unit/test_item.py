"""What is accepted from the audit list and what becomes a dead letter, at every boundary."""

from __future__ import annotations

import json

import pytest

from rlm.core.item import (
    NOT_EMBEDDABLE,
    BadItemError,
    Reason,
    decode_item,
    encode_letter,
)
from tests.each import each

#: An item with nothing wrong; tests change one field.
GOOD = {"id": "1703123456789-abc123def", "wallet_name": "wallet_001", "events": ["REBALANCE_NEEDED"]}


def item_with(**fields):
    return json.dumps({**GOOD, **fields}).encode()


def item_without(field):
    return json.dumps({name: value for name, value in GOOD.items() if name != field}).encode()


def fault_of(raw):
    with pytest.raises(BadItemError) as caught:
        decode_item(raw)
    return caught.value


@each(
    ("reason", "items"),
    [
        (
            Reason.NOT_JSON,
            [
                *(b"", b"nonsense", b"{", item_with() + b" x", b"'" + item_with()[1:], b"\xef\xbb\xbf" + item_with()),
                *(b"NaN", *(item_with(x=float(number)) for number in ("nan", "inf", "-inf"))),
                *(item_with(x="@").replace(b'"@"', number) for number in (b"1e400", b"9" * 4301)),
                item_with(wallet_name="@").replace(b"@", b"\\ud800"),
            ],
        ),
        (Reason.NOT_UTF8, [b"\xff", *(item_with(x="@").replace(b"@", raw) for raw in (b"\xc3", b"\xed\xa0\x80"))]),
        (Reason.NOT_OBJECT, [b"null", b"true", b"17", b'"text"', b"[" + item_with() + b"]"]),
        (Reason.MISSING_FIELD, [b"{}", *(item_without(name) for name in ("id", "wallet_name", "events"))]),
        (
            Reason.WRONG_TYPE,
            [
                *(item_with(id=7), item_with(id=0.5), item_with(id=None), item_with(wallet_name=["w"])),
                *(item_with(events=value) for value in ("A", {"a": 1}, None, ["A", 1], ["A", None], [["A"]])),
                *(item_with(priority=value) for value in ("5", True, None)),
            ],
        ),
        (
            Reason.BAD_VALUE,
            [
                *(item_with(id=value) for value in ("", "a b", "a\n", "\x7f", "é", "x" * 201)),
                *(item_with(wallet_name=value) for value in ("", "x" * 501, "\U0001f4b0" * 501)),
                *(item_with(events=[]), item_with(events=[str(number) for number in range(101)])),
                *(item_with(priority=value) for value in (-1, 101, 0.5, 1e300, 10**30)),
            ],
        ),
    ],
)
def test_each_fault_has_its_code(reason, items):
    assert [fault_of(raw).reason for raw in items] == [reason] * len(items)


@pytest.mark.parametrize("item_id", ["!", "~", "a:b:c", "{}*?[]\\", "x" * 200])
def test_an_id_may_have_any_visible_ascii_character_up_to_200(item_id):
    assert decode_item(item_with(id=item_id)).id == item_id


@each("name", ["w", "кошелёк", "财布", "\U0001f4b0" * 500, "a\nb\x00", "x" * 500])
def test_a_wallet_name_may_be_in_any_script_up_to_500_characters(name):
    assert decode_item(item_with(wallet_name=name)).wallet_name == name


TWICE = b'{"id": "i1", "wallet_name": "w", "events": ["A"], "x": %s}'


@pytest.mark.parametrize(
    "value",
    [
        b'1, "id": "i2"',
        b'1, "x": 1',
        b'1, "\\u0078": "a"',
        b'[{"y": 1, "y": 2}]',
        b'"\\u003a", "x": "\\u003A:"',
        b'0, "x":":"',
    ],
)
def test_an_item_with_a_field_twice_is_bad(value):
    """RLM would read one of them, and the API perhaps the other."""
    assert fault_of(TWICE % value).reason is Reason.BAD_VALUE


@pytest.mark.parametrize(
    "value",
    [
        b'":"',
        b'"\\u003a"',
        b'{"x":{"x" : "\\"x\\":"}}',
        b'[{"y":1},{"y":1}]',
        b'"' + b"[" * 200 + b'"',
        b'{"\\\\":":"}',
    ],
)
def test_what_only_looks_like_a_field_twice_or_like_depth_is_well(value):
    assert decode_item(TWICE % value).id == "i1"


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_a_depth_beyond_any_parser_is_too_deep_and_no_crash(opening):
    closing = b"]" if opening == b"[" else b"}"

    assert fault_of(opening * 10_000 + b"1" + closing * 10_000).reason is Reason.TOO_DEEP
    assert fault_of(opening * 10_000).reason in {Reason.TOO_DEEP, Reason.NOT_JSON}


@each("reason", sorted(set(Reason) - NOT_EMBEDDABLE))
def test_a_letter_embeds_the_item_as_it_came(reason):
    raw = b'{"id":"i", "x":1.0e2,"s":"\\u0041","n":123456789012345678901234567890}'

    letter = encode_letter(raw, reason, "why", failed_at=1703169025.1234, run_id="r1", event="i:T")

    assert raw in letter
    document = json.loads(letter)
    assert len(document.pop("id")) >= 8
    assert document == {
        "reason": reason.value,
        "detail": "why",
        "failed_at": "2023-12-21T14:30:25.123Z",
        "run_id": "r1",
        "event_id": "i:T",
        "item": json.loads(raw),
    }
