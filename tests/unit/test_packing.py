"""Items as they are kept compressed: byte for byte what came, and shorter where that can be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlm.core.packing import pack_item, unpack_item
from tests.each import each

ITEM = (
    b'{"id": "1703123456789-abc123def", "wallet_name": "wallet_001", "events": ["REBALANCE_NEEDED"], "worker_id": "1", '
    b'"timestamp": "2024-06-05T09:07:31.877Z", "priority": 5, "retry_count": 0}'
)

#: It, as the first version that packs kept it.
PACKED = "00c3e25e0b4bddc4a464202725350d8fdb0d0c09b93e16a41939c80db185b489ae0130b04d430c2cad0cccad8c0df52ccccd89096900"


@given(st.binary().map(lambda more: b"{" + more))
def test_an_item_comes_back_as_it_came(item):
    """Whatever stands behind its brace; and it never takes more room."""
    kept = pack_item(item)

    assert unpack_item(kept) == item
    assert len(kept) <= len(item)


def test_a_usual_item_takes_a_third():
    """An event that waits is to take at most twice its JSON."""
    assert len(pack_item(ITEM)) < len(ITEM) / 3


def test_what_was_packed_once_can_be_read_by_every_version():
    """The dictionary is a part of the format."""
    assert unpack_item(bytes.fromhex(PACKED)) == ITEM


@each("kept", [b"", b"null", b'{"id": 1}', b"\0", b"\0garbage", b"\xff\xfe", pack_item(ITEM)[:-1]])
def test_what_is_no_packed_item_comes_back_as_it_stands(kept):
    """It was not packed, or damaged since: whoever reads it finds that out."""
    assert unpack_item(kept) == kept
