"""Dead letters: writing and listing them, sending a letter's events again, and dropping letters."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import IntEnum
from typing import Any

import msgspec
from msgspec import structs

from rlm.core.item import (
    NOT_EMBEDDABLE,
    BadItemError,
    Item,
    Reason,
    decode_item,
    encode_letter,
    event_id,
    type_of,
)
from rlm.core.text import is_name
from rlm.ledger.scripts import PAGE, Part


class Envelope(msgspec.Struct):
    """The parts of a letter that RLM uses. `aside` is the list to which its item was moved because it was too large."""

    id: str
    reason: Reason
    event_id: str | None
    item: msgspec.Raw
    detail: object = ""
    failed_at: object = ""
    types: list[str] = []
    aside: object = None

    @property
    def event_types(self) -> list[str]:
        """The types of its events; empty if its item as a whole is the letter."""
        return self.types or ([type_of(self.event_id)] if self.event_id else [])

    @property
    def item_bytes(self) -> bytes:
        """Its item as it was pushed."""
        raw = bytes(self.item)
        return base64.b64decode(msgspec.json.decode(raw)["base64"]) if self.reason in NOT_EMBEDDABLE else raw


class Removal(IntEnum):
    """What became of a letter that was to be removed; under way again is its event, and the letter is still there."""

    DONE = 1
    GONE = 0
    UNDER_WAY = -1


class _Order(msgspec.Struct):
    """A letter to be removed, as `remove_letter` in the scripts takes it."""

    letter: bytes
    retried: list[tuple[str, str, int]] = []
    item: bytes = b""
    rest: bytes = b""
    dropped: str = ""


class NewLetters:
    """Writes the dead letters of some items, all with the same time; `now` is called only if there is a letter."""

    def __init__(self, run_id: str, now: Callable[[], float]) -> None:
        self._run_id = run_id
        self._now = now
        self._at = 0.0

    def reject(self, raw: bytes, error: BadItemError) -> bytes:
        """Return the letter of an item as a whole."""
        return self._write(raw, error, event=None)

    def unknown(self, raw: bytes, item: Item, types: Sequence[str]) -> bytes:
        """Return the letter of an item's types that are not configured.

        It has the event's id if it is of one event whose type is a valid name: `a` + `b:T` would be the id of `a:b`.
        """
        event = event_id(item.id, types[0]) if len(types) == 1 and is_name(types[0]) else None
        return self._write(raw, BadItemError.unknown_types(types), event=event, types=types)

    def unread(self, size: int, most: int, aside: str) -> bytes:
        """Return the letter of an item that was moved to the list `aside`."""
        return self._write(b"null", BadItemError.too_large(size, most), event=None, aside=aside)

    def _write(self, raw: bytes, error: BadItemError, **origin: Any) -> bytes:
        return encode_letter(raw, error.reason, error.detail, failed_at=self._time(), run_id=self._run_id, **origin)

    def _time(self) -> float:
        self._at = self._at or self._now()
        return self._at


class Letters(Part):
    """The list of dead letters, newest first. Each letter has an `id`."""

    def count(self) -> int:
        """Return how many there are."""
        return int(self._ask("LLEN", self._keys.failed))

    def all(self) -> Iterator[bytes]:
        """Yield them, newest first. Entries that are not RLM's letters are skipped."""
        for page in self._pages(self._keys.failed):
            yield from filter(is_letter, page)

    def oldest(self, skip: int, most: int) -> list[bytes]:
        """Return up to `most` entries after the `skip` oldest, oldest first, whether they are letters or not.

        They are about a megabyte at the most. New letters do not shift them.
        """
        return self._oldest(self._keys.failed, skip, most)

    def retry(self, letters: Sequence[bytes], priorities: Mapping[str, int]) -> list[Removal | BadItemError]:
        """Make the events of letters ready, with no attempts or runs; push items without event back.

        `priorities` has the priority of each configured type; a letter of several events stays for those of other
        types. Return for each letter what was done, or why its events cannot be sent.
        """
        orders = [self._retry_of(raw, priorities) for raw in letters]
        done = iter(self._remove([order for order in orders if isinstance(order, _Order)]))
        return [next(done) if isinstance(order, _Order) else order for order in orders]

    def _retry_of(self, raw: bytes, priorities: Mapping[str, int]) -> _Order | BadItemError:
        """Return the order to retry a letter, or why it cannot be retried."""
        letter = msgspec.json.decode(raw, type=Envelope)
        if letter.aside is not None:
            return BadItemError(letter.reason, f"its item was moved aside unread, to {letter.aside}")
        order = _Order(raw, item=letter.item_bytes)
        if not (types := letter.event_types):
            return order
        try:
            item = _own_item(letter)
        except BadItemError as error:
            return error
        order.retried = [
            (event_id(item.id, name), item.wallet_name, item.offset(priorities[name]))
            for name in types
            if name in priorities
        ]
        unknown = [name for name in types if name not in priorities]
        if not order.retried:
            return BadItemError.unknown_types(types)
        order.rest = _with_types(raw, unknown) if unknown else b""
        return order

    def drop(self, letters: Sequence[bytes]) -> list[Removal]:
        """Remove letters, and forget each event that failed with its letter; return what was done."""
        return self._remove([_Order(raw, dropped=_own_event(raw)) for raw in letters])

    def _remove(self, orders: Sequence[_Order]) -> list[Removal]:
        keys = {"failed": self._keys.failed, "audit": self._keys.events}
        return list(map(Removal, self._run_each("remove_letter", [keys | structs.asdict(order) for order in orders])))

    def surplus(self, keep: int) -> list[bytes]:
        """Return what to archive next: some of the oldest entries beyond the newest `keep`, oldest first."""
        return self.oldest(0, max(0, min(PAGE, self.count() - keep)))

    def trim(self, letters: Sequence[bytes]) -> None:
        """Remove these letters, which are archived; their events stay known as failed."""
        self._batch(("LREM", self._keys.failed, -1, raw) for raw in letters)


def is_letter(raw: bytes) -> bool:
    """Return whether an entry of the list is a letter that RLM wrote, or a similar one."""
    try:
        msgspec.json.decode(raw)  # all of it, as its readers do
        msgspec.json.decode(raw, type=Envelope).item_bytes  # noqa: B018  # it may raise
    except (ValueError, TypeError, KeyError, RecursionError):  # other programs may push here
        return False
    return True


def _own_event(raw: bytes) -> str:
    """Return the id of a letter's event; "" if it has none, or one that does not belong to its item."""
    letter = msgspec.json.decode(raw, type=Envelope)
    with suppress(BadItemError):
        if letter.event_id:
            _own_item(letter)
            return letter.event_id
    return ""


def _own_item(letter: Envelope) -> Item:
    """Return the item of a letter of events.

    Raises:
        BadItemError: it is none, or the events are not of the item: an unknown type has a colon and ends like a known
            type, or another program wrote the letter; its event id must not get into keys and headers unchecked.
    """
    item, types = decode_item(letter.item_bytes, max_bytes=len(letter.item_bytes)), letter.event_types
    ids = [event_id(item.id, name) for name in types]
    is_own = letter.event_id is None or (is_name(types[0]) and ids == [letter.event_id])
    if not (is_own and set(types) <= set(item.types)):
        raise BadItemError(Reason.BAD_VALUE, "its events are not of its item")
    return item


def _with_types(raw: bytes, types: Sequence[str]) -> bytes:
    """Return a letter as it stays for some of its types, unchanged but for what names them."""
    fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    detail = msgspec.json.encode(str(BadItemError.unknown_types(types)))
    return msgspec.json.encode({**fields, "detail": msgspec.Raw(detail), "types": types})
