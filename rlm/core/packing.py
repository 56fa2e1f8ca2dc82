"""Items as the ledger keeps them: as they came or, if `queue.compress` is on, compressed.

A compressed item consists of a mark, a checksum and the zlib data. The dictionary holds what most items contain, and
what the ledger stores beside the item: the event id and the wallet.
"""

from __future__ import annotations

import zlib

#: The mark of a compressed item; no JSON begins with it. A new dictionary or checksum needs a new mark.
_MARK = b"\1"
#: What most items contain, written with and without spaces.
_LIKELY = (
    b'OPEN_POSITION_DETECTED", "OPEN_ORDER_DETECTED", "NEW_BALANCE_UPDATE", "BALANCE_CHECK_REQUIRED", "REBALANCE_NEEDED'
    b'{"id":"","wallet_name":"","events":["",'
    b'],"worker_id":"0123456789","timestamp":"2026-01-01T00:00:00.000Z","priority":5,"retry_count":0}'
    b'"], "worker_id": "0123456789", "timestamp": "2026-01-01T00:00:00.000Z", "priority": 5, "retry_count": 0}'
)
#: The level, the window (a power of 2 bytes) and the memory of zlib; each item is compressed separately.
_LEVEL, _WINDOW, _MEMORY = 3, 10, 2
_CHECK_BYTES = 4


def pack_item(item: bytes, event_id: str, wallet: bytes) -> bytes:
    """Return a valid JSON item as it is kept for one of its events: compressed if that is shorter, else unchanged."""
    known = _known(event_id, wallet)
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -_WINDOW, _MEMORY, zlib.Z_DEFAULT_STRATEGY, known)
    packed = _MARK + _check(item) + deflate.compress(item) + deflate.flush()
    return packed if len(packed) < len(item) else item


def unpack_item(kept: bytes, event_id: str, wallet: bytes | None) -> bytes:
    """Return the item of an event as it came, compressed or not; a damaged one is returned as it is stored.

    With another `wallet` than it was packed with, an item counts as damaged as well.
    """
    if not kept.startswith(_MARK):
        return kept
    begins = len(_MARK) + _CHECK_BYTES
    try:
        item = zlib.decompressobj(-_WINDOW, _known(event_id, wallet or b"")).decompress(kept[begins:])
    except zlib.error:
        return kept
    return item if _check(item) == kept[len(_MARK) : begins] else kept


def _known(event_id: str, wallet: bytes) -> bytes:
    item_id, _, name = event_id.encode(errors="replace").rpartition(b":")
    return b'%b{"id": "%b", "wallet_name": "%b", "events": ["%b"' % (_LIKELY, item_id, wallet, name)


def _check(item: bytes) -> bytes:
    return zlib.crc32(item).to_bytes(_CHECK_BYTES, "big")
