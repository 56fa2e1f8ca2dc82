"""Dead letters searched for: what need not be decoded is not, and nothing is missed by that."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.admin.letters import LetterFilter
from rlm.core.item import Reason, encode_letter
from rlm.ledger.letters import is_letter

TYPE = "REBALANCE_NEEDED"


def letter(wallet="wallet_001", reason=Reason.REJECTED, detail="HTTP 422: no", item=b"", event=f"i1:{TYPE}"):
    """Write a letter with the item of a wallet, or with these bytes as its item."""
    item = item or json.dumps({"id": "i1", "wallet_name": wallet, "events": [TYPE]}, ensure_ascii=False).encode()
    return encode_letter(item, reason, detail, failed_at=1.0, run_id=None, event=event, endpoint="api")


TEXTS = st.text('aS"\\/\n\t1.\x1bß', max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
FIELDS = st.dictionaries(st.sampled_from(["id", "wallet_name", "more"]), VALUES)


class Shelf:
    """A store that has these letters."""

    def __init__(self, *raws):
        self.letters = self
        self.raws = raws

    def all(self, *tests):
        return (raw for raw in self.raws if all(test(raw) for test in tests))


@pytest.mark.parametrize(
    ("text", "wallet"),
    [
        ("wallet_001", b"Wallet_001"),
        ("WALLET", b"a wallet"),
        ("straße", b"STRASSE"),
        ("kilo", "\u212aILO".encode()),
        ("кошелёк", "КОШЕЛЁК".encode()),
        ("кошелёк", b"\\u043a\\u043e\\u0448\\u0435\\u043b\\u0451\\u043a"),
        ("wallet", b"\\u0077allet"),
        ("a/b", b"a\\/b"),
        ('say "a\\b"', b'say \\"a\\\\b\\"'),
        ("a\tb", b"a\\tb"),
        ("a\x1bb", b"a\\u001Bb"),
    ],
)
def test_a_text_is_found_however_it_is_spelled(text, wallet):
    """In other case, escaped as any JSON writer may, in any script."""
    raw = letter(item=b'{"id":"i1","wallet_name":"%b","events":["%b"]}' % (wallet, TYPE.encode()))

    assert list(LetterFilter(text=text).find(Shelf(raw, letter("another")))) == [raw]


def test_a_text_in_an_item_that_is_kept_as_base64_is_found():
    """Such a letter is always decoded."""
    raw = letter(item=b'{"wallet_001', reason=Reason.NOT_JSON, event=None)

    assert list(LetterFilter(text="WALLET_001").find(Shelf(raw))) == [raw]


@pytest.mark.parametrize(
    "wanted",
    [
        LetterFilter(),
        LetterFilter(types={TYPE}),
        LetterFilter(reasons={Reason.NOT_JSON, Reason.POISON}),
        LetterFilter(endpoints={"other"}),
        LetterFilter(answers={"HTTP 422"}),
        LetterFilter(types={TYPE}, answers={"HTTP 500", "HTTP 422"}, text="wallet"),
        LetterFilter(text="\udcff"),
        LetterFilter(since=0.5, text="i1"),
        LetterFilter(since=1.5),
    ],
)
def test_a_search_misses_nothing(wanted):
    """It finds what fits if each letter is decoded."""
    raws = [
        letter(),
        letter("other"),
        letter(detail="HTTP 500"),
        letter(reason=Reason.POISON, detail="died"),
        letter(item=b"{", reason=Reason.NOT_JSON, event=None),
    ]

    assert list(wanted.find(Shelf(*raws))) == [raw for raw in raws if wanted.fits(raw)]


@given((FIELDS | VALUES).map(json.dumps), TEXTS, st.integers(0, 30), st.integers(1, 5))
def test_whatever_fits_is_found(item, detail, start, length):
    """Any part of what a search looks at is found, whatever the item is."""
    raw = letter(item=item.encode(), detail=detail, event=None)
    fields = msgspec.json.decode(item)
    shown = [fields.get("id"), fields.get("wallet_name")] if isinstance(fields, dict) and fields else [item]
    whole = "\n".join(str(one) for one in [detail, *shown] if one is not None)
    wanted = LetterFilter(text=whole[start % (len(whole) or 1) :][:length])

    assert is_letter(raw)
    assert wanted.fits(raw)
    assert list(wanted.find(Shelf(raw))) == [raw]
