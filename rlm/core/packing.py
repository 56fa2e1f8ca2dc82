"""Items as they wait in the ledger: as they came or, where `queue.compress` is on, compressed.

A compressed item is its mark, a checksum, and what zlib makes of it. Its dictionary is what items mostly consist of,
and what stands beside the item in the ledger: the id of its event, and the wallet.
"""

from __future__ import annotations

import zlib

#: What begins a compressed item: no JSON begins so. Another dictionary, or another checksum, takes another mark.
_MARK = b"\1"
#: What items mostly consist of, written without spaces and with them.
_LIKELY = (
    b'OPEN_POSITION_DETECTED", "OPEN_ORDER_DETECTED", "NEW_BALANCE_UPDATE", "BALANCE_CHECK_REQUIRED", "REBALANCE_NEEDED'
    b'{"id":"","wallet_name":"","events":["",'
    b'],"worker_id":"0123456789","timestamp":"2026-01-01T00:00:00.000Z","priority":5,"retry_count":0}'
    b'"], "worker_id": "0123456789", "timestamp": "2026-01-01T00:00:00.000Z", "priority": 5, "retry_count": 0}'
)
#: How hard zlib tries, how far back it looks, as a power of 2 bytes, and the memory it takes, for each item anew.
_LEVEL, _WINDOW, _MEMORY = 3, 10, 2
_CHECK_BYTES = 4


def pack_item(item: bytes, event_id: str, wallet: bytes) -> bytes:
    """Return an item, which is valid JSON, as it is kept for one of its events; as it came if that is no longer."""
    known = _known(event_id, wallet)
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -_WINDOW, _MEMORY, zlib.Z_DEFAULT_STRATEGY, known)
    packed = _MARK + _check(item) + deflate.compress(item) + deflate.flush()
    return packed if len(packed) < len(item) else item


def unpack_item(kept: bytes, event_id: str, wallet: bytes | None) -> bytes:
    """Return the item of an event as it came, compressed or not; what was damaged since comes back as it stands there.

    It is damaged as well if the `wallet` is another than it was packed with.
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
