"""Items as they wait in the ledger: as they came or, where `queue.compress` is on, compressed."""

from __future__ import annotations

import zlib

#: What begins a compressed item: no JSON begins so.
_MARK = b"\0"
#: What items mostly consist of. It is a part of the format: with another one nothing compressed before can be read.
_LIKELY = (
    b'"worker_id": "0123456789", "timestamp": "2026-01-01T00:00:00.000Z", "priority": 5, "retry_count": 0}'
    b'{"id": "17031234567", "wallet_name": "wallet_0", "events": ["REBALANCE_NEEDED", "OPEN_POSITION_DETECTED", '
    b'"OPEN_ORDER_DETECTED", "NEW_BALANCE_UPDATE", "BALANCE_CHECK_REQUIRED"]'
)
#: How far back it looks, as a power of 2 bytes, and the memory it takes: 10 kB to be copied for each item.
_WINDOW, _MEMORY = 10, 2
_DEFLATE = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -_WINDOW, _MEMORY, zdict=_LIKELY)


def pack_item(item: bytes) -> bytes:
    """Return an item, which is valid JSON, as it is kept; as it came if that is no longer."""
    deflate = _DEFLATE.copy()
    packed = _MARK + deflate.compress(item) + deflate.flush()
    return packed if len(packed) < len(item) else item


def unpack_item(kept: bytes) -> bytes:
    """Return an item as it came, compressed or not; what was damaged since comes back as it stands there."""
    if not kept.startswith(_MARK):
        return kept
    inflate = zlib.decompressobj(-_WINDOW, _LIKELY)
    try:
        item = inflate.decompress(kept[len(_MARK) :])
    except zlib.error:
        return kept
    return item if inflate.eof else kept
