"""Items in their compressed form: byte for byte the original, and shorter if possible."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from rlm.core.packing import pack_item, unpack_item
from tests.each import each

ITEM = (
    b'{"id": "1703123456789-abc123def", "wallet_name": "wallet_001", "events": ["REBALANCE_NEEDED"], "worker_id": "1", '
    b'"timestamp": "2024-06-05T09:07:31.877Z", "priority": 5, "retry_count": 0}'
)

EVENT, WALLET = "1703123456789-abc123def:REBALANCE_NEEDED", b"wallet_001"
#: It, as the first version that packs kept it.
PACKED = "01e165bfa7a3a5d918c103760d7aa898e81a0003c634c4c0d2cac0dccad850cfc2dc9c98500100"


@given(st.binary().map(lambda more: b"{" + more), st.text(), st.binary())
def test_an_item_comes_back_as_it_came(item, event_id, wallet):
    """Whatever stands behind its brace, and whatever is known of it; and it never takes more room."""
    kept = pack_item(item, event_id, wallet)

    assert unpack_item(kept, event_id, wallet) == item
    assert len(kept) <= len(item)


def test_a_usual_item_takes_a_quarter():
    """An event that waits is to take at most twice its JSON; written without spaces it is shorter by itself."""
    assert len(pack_item(ITEM, EVENT, WALLET)) < len(ITEM) / 4
    compact = msgspec.json.format(ITEM, indent=-1)
    assert len(pack_item(compact, EVENT, WALLET)) < len(compact) / 3


def test_a_long_wallet_that_stands_beside_it_takes_no_room_in_it():
    """So do the id of its event and a type of one's own: they are kept once, outside of it."""
    wallet, event_id = b"0x" + bytes(range(48, 88)), "018f3b2c-9d1e-4a77-b1c2-5f60718293a4:SETTLE_PAYOUT"
    item_id, name = event_id.encode().split(b":")
    item = ITEM.replace(WALLET, wallet).replace(EVENT[:23].encode(), item_id).replace(b"REBALANCE_NEEDED", name)

    assert abs(len(pack_item(item, event_id, wallet)) - len(pack_item(ITEM, EVENT, WALLET))) <= 4


def test_what_was_packed_once_can_be_read_by_every_version():
    """The dictionary is a part of the format."""
    assert unpack_item(bytes.fromhex(PACKED), EVENT, WALLET) == ITEM


DAMAGED = bytes.fromhex(PACKED)


@each(
    "kept",
    [b"", b"null", b'{"id": 1}', b"\1", b"\1garbage", b"\0old", b"\xff\xfe", DAMAGED[:-2], DAMAGED[:6] + DAMAGED[7:]],
)
def test_what_is_no_packed_item_comes_back_as_it_stands(kept):
    """It was not packed, or damaged since: whoever reads it finds that out."""
    assert unpack_item(kept, EVENT, WALLET) == kept


@each(("event_id", "wallet"), [(EVENT, b"wallet_002"), (EVENT, None), (EVENT.replace("17", "71"), WALLET)])
def test_an_item_beside_which_another_wallet_stands_is_damaged(event_id, wallet):
    """It would come back as another item, as valid as this one."""
    assert unpack_item(DAMAGED, event_id, wallet) == DAMAGED
