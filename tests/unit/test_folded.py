"""An event folded and unfolded is the same event; what is not a folded event is none."""

from __future__ import annotations

from random import Random

from rlm.core.packing import pack_item
from rlm.ledger.folded import fold, unfold
from tests.each import each

#: What wallets and items are put together from: what might be taken for a part of the head, and text of any script.
PIECES = [
    "1",
    "12",
    " ",
    "1.000 ",
    "1703123456.789 5 ",
    ".",
    "\n",
    "\0",
    '"',
    "{}",
    "a",
    "ä",
    "кошелёк",
    "钱",
    "🪙",
    "\u2028",
]
WALLETS = ["w", " ", " leading", "12 ab", "1.000 2 ab", "ко 7 шелёк", "💰" * 125, "x" * 500, "\t", "0"]
ITEMS = [b"{}", b" ", b"1", b"\x00", b'{"id": "i1"}', "\u00e4".encode(), bytes(range(256)), b"x" * 65_536]
ID = "i1:a:b:TYPE"

#: How a beginning may be spelt that is left out.
SPELLINGS = ['{"id": "%s", "wallet_name": "%s", "events": ["', '{"id":"%s","wallet_name":"%s","events":["']

#: What is not a folded event.
NONE = [
    *(b"", b" ", b"1", b"1.000", b"1.000 ", b"1.000 1", b"1.000 1 ", b"1.000 1 a", b"1.000 2 ab", b"1.000 3 ab"),
    *(b"1.00 1 ab", b"1.0000 1 ab", b"1 1 ab", b".000 1 ab", b"-1.000 1 ab", b"1.000 -1 ab", b"1.000 1.0 ab"),
    *(b" 1.000 1 ab", b"x1.000 1 ab", b"1.000  1 ab", b"1.000 1ab", b"1,000 1 ab", b"1.000\n1 ab", b"nan 1 ab"),
    *(b"1.000 0x1 ab", b"1.000 9999999999 ab", "\u0661.000 1 ab".encode(), b'{"id": "i1"}', b"no hash"),
]


def assert_comes_back(taken_at, wallet, item):
    assert unfold(ID, fold(ID, taken_at, wallet, item)) == {
        b"taken_at": taken_at,
        b"wallet": wallet.encode(),
        b"item": item,
    }


@each(("wallet", "item"), [(wallet, item) for wallet in WALLETS for item in ITEMS])
def test_it_comes_back_byte_for_byte(wallet, item):
    """Whatever is in the wallet's name and in the item."""
    assert_comes_back(b"1703123456.789", wallet, item)


@each(("wallet", "spelling"), [(wallet, spelling) for wallet in WALLETS for spelling in SPELLINGS])
def test_the_beginning_that_its_key_and_wallet_tell_is_left_out(wallet, spelling):
    """In both spellings, whatever comes then; not of another id or wallet, nor of a part of it."""
    begins = spelling % ("i1:a:b", wallet)
    item, cut = f'{begins}TYPE"], "more": 1}}'.encode(), spelling % ("i1:a:b", wallet + "x")

    assert len(fold(ID, b"1.000", wallet, item)) < len(item) - len("wallet_name")
    for one in (item, f"{begins}]".encode(), begins[:-1].encode(), cut.encode()):
        assert_comes_back(b"1.000", wallet, one)
    assert_comes_back(b"1.000", wallet, (spelling % ("i1:a", wallet)).encode() + b"x")


@each("seed", range(300))
def test_it_comes_back_whatever_it_is_put_together_from(seed):
    """By chance."""
    random = Random(seed)
    wallet, item = ("".join(random.choices(PIECES, k=random.randint(1, 12))) for _ in range(2))

    assert_comes_back(random.choice((b"0.000", b"1.500", b"1703123456.000", b"9999999999.999")), wallet, item.encode())


@each("wallet", WALLETS)
def test_a_packed_item_comes_back_packed(wallet):
    """It may begin with any byte."""
    item = b'{"id": "i1", "note": "%b"}' % (b"more of the same " * 20)

    assert_comes_back(b"1.000", wallet, pack_item(item, "i1:TYPE", wallet.encode()))


@each("raw", NONE)
def test_what_is_not_one_is_none(raw):
    """Without a time, the size of the wallet's name, and at least one byte of an item, it is somebody else's."""
    assert unfold(ID, raw) is None


def test_an_item_is_behind_an_empty_name():
    """The name is what its size says, also none; no item of the audit list has such a wallet."""
    assert unfold(ID, b"1.000 0 a") == {b"taken_at": b"1.000", b"wallet": b"", b"item": b"a"}
