"""Dead letters: list them, send one's event into the next run, drop one."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, cast

import msgspec

from rlm.event import NOT_EMBEDDABLE, BadItemError, Reason, decode_item, event_id, type_of
from rlm.store.connect import translated
from rlm.store.intake import order_offset
from rlm.store.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import redis

    from rlm.store.keys import Keys

_PAGE = 500
#: What is read of the oldest letters at once, at the most: letters, and bytes of them after which no more is read.
_CHUNK = 200
_CHUNK_BYTES = 1_000_000


class _Envelope(msgspec.Struct):
    id: str
    reason: Reason
    event_id: str | None
    item: msgspec.Raw


class Letters:
    """The list of dead letters, newest first. A letter is known by its `id`."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._retry = Script("retry_letter")
        self._drop = Script("drop_letter")
        self._peek = Script("peek_items")
        self._trim = Script("trim_letters")

    def count(self) -> int:
        """Count them."""
        with translated(self._client):
            return self._client.llen(self._keys.failed)

    def all(self) -> Iterator[bytes]:
        """Read them, newest first, a page at a time. Entries that are no letters of ours are passed over."""
        start = 0
        while True:
            with translated(self._client):
                page = cast("list[bytes]", self._client.lrange(self._keys.failed, start, start + _PAGE - 1))
            yield from (raw for raw in page if is_letter(raw))
            if len(page) < _PAGE:
                return
            start += _PAGE

    def oldest(self, skip: int, number: int) -> list[bytes]:
        """Read entries behind the `skip` oldest, oldest first, letters or not; none is moved by what is added."""
        with translated(self._client):
            page = self._client.lrange(self._keys.failed, -skip - number, -skip - 1)
        return cast("list[bytes]", page)[::-1]

    def find(self, handle: str) -> bytes | None:
        """Return the letter with this id, as it stands in the list, or None."""
        return next((raw for raw in self.all() if msgspec.json.decode(raw)["id"] == handle), None)

    def retry(self, raw: bytes, priorities: Mapping[str, int]) -> bool:
        """Make the event of a letter one of the next run, attempts and runs at zero; put an item without one back.

        `priorities` holds each configured type's own. Returns False when the letter was gone, or its event under way
        again, and nothing was changed.

        Raises:
            BadItemError: the letter's event cannot be sent: its type is not configured, or its item is bad.
        """
        letter = msgspec.json.decode(raw, type=_Envelope)
        item, keys, event = _item_of(letter), self._keys, letter.event_id or ""
        if not event:
            return self._run_retry([keys.failed, keys.events, keys.retried("")], [raw, "", "", "", item, 0])
        name = type_of(event)
        if name not in priorities:
            raise BadItemError.unknown_type(name)
        decoded = decode_item(item, max_bytes=len(item))
        if name not in decoded.types or event != event_id(decoded.id, name):
            # An unknown type with a colon in it, whose end is the name of a known one; or a letter somebody else wrote,
            # whose event id would stand in keys and headers unchecked.
            raise BadItemError.unknown_type(event.removeprefix(f"{decoded.id}:"))
        priority = priorities[name] if decoded.priority is None else decoded.priority
        return self._run_retry(
            [keys.failed, keys.event(event), keys.retried(name)],
            [raw, event, name, decoded.wallet_name, item, order_offset(priority)],
        )

    def _run_retry(self, keys: list[str], args: list[str | bytes | int]) -> bool:
        return cast("int", self._retry(self._client, [*keys, self._keys.types, self._keys.sequence], args)) > 0

    def drop(self, raw: bytes) -> bool:
        """Remove a letter for good and forget its event; False when it was gone."""
        event = msgspec.json.decode(raw, type=_Envelope).event_id or ""
        return bool(self._drop(self._client, [self._keys.failed, self._keys.event(event)], [raw, event]))

    def surplus(self, keep: int) -> list[bytes]:
        """Read some of the oldest entries of the list, oldest first, of those that are more than `keep`."""
        number = min(_CHUNK, self.count() - keep)
        return self._peek(self._client, [self._keys.failed], [number, _CHUNK_BYTES]) if number > 0 else []

    def trim(self, token: int, letters: Sequence[bytes]) -> int:
        """Remove the oldest entries, which are `letters` and archived; return how many. May be repeated.

        Raises FencedError for a `token` that is not the lease's.
        """
        digests = [hashlib.sha1(one, usedforsecurity=False).hexdigest() for one in letters]
        return int(self._trim(self._client, [self._keys.lease, self._keys.failed], [token, *digests]))


def is_letter(raw: bytes) -> bool:
    """Tell whether an entry of the list is a letter that RLM wrote, or one like it."""
    try:
        msgspec.json.decode(raw)  # all of it, as its readers will
        _item_of(msgspec.json.decode(raw, type=_Envelope))
    except (ValueError, TypeError, KeyError, RecursionError):  # others may push here too
        return False
    return True


def _item_of(letter: _Envelope) -> bytes:
    raw = bytes(letter.item)
    return base64.b64decode(msgspec.json.decode(raw)["base64"]) if letter.reason in NOT_EMBEDDABLE else raw
