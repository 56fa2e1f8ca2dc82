"""Dead letters: writing and listing them, sending a letter's events again, and dropping letters."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from rlm.core.item import (
    NOT_EMBEDDABLE,
    BadItemError,
    Item,
    Reason,
    decode_item,
    encode_letter,
    event_id,
    letter_of_unread,
    order_offset,
    type_of,
)
from rlm.core.text import is_name
from rlm.ledger.connect import text
from rlm.ledger.entries import Entries
from rlm.ledger.keys import longest_letter
from rlm.ledger.scripts import Part

if TYPE_CHECKING:
    from rlm.ledger.store import Store

#: Limits of one read: the number of letters, and the bytes after which it ends.
_PAGE = 500
_CHUNK = 200
_CHUNK_BYTES = 1_000_000


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


class Placed(NamedTuple):
    """A letter as stored in the list, and how many entries were older when it was read; it is found wherever it is."""

    raw: bytes
    older: int = 0


class Removal(IntEnum):
    """What became of a letter that was to be removed; under way again is its event, and the letter is still there."""

    DONE = 1
    GONE = 0
    UNDER_WAY = -1


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
        return letter_of_unread(size, most, aside, failed_at=self._time(), run_id=self._run_id)

    def _write(self, raw: bytes, error: BadItemError, **origin: Any) -> bytes:
        return encode_letter(raw, error.reason, error.detail, failed_at=self._time(), run_id=self._run_id, **origin)

    def _time(self) -> float:
        self._at = self._at or self._now()
        return self._at


class Letters(Part):
    """The list of dead letters, newest first. Each letter has an `id`."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._longest = longest_letter(store.settings.queue.max_item_bytes)

    def count(self) -> int:
        """Return how many there are."""
        return int(self._ask("LLEN", self._keys.failed))

    def all(self, *tests: Callable[[bytes], bool]) -> Iterator[bytes]:
        """Yield them, newest first, read about a megabyte at a time. Entries that are not RLM's letters are skipped.

        So are those that fail one of the `tests`, which are made before it is decoded.
        """
        start, number = 0, 1
        while True:  # without a script, because a read-only user may run none
            page = found = self._ask("LRANGE", self._keys.failed, start, start + number - 1)
            for test in tests:
                found = filter(test, found)
            yield from filter(is_letter, found)
            if len(page) < number:
                return
            start += number
            number = max(1, min(_PAGE, 2 * number, _CHUNK_BYTES * number // (sum(map(len, page)) or 1)))

    def oldest(self, skip: int, number: int) -> list[bytes]:
        """Return up to `number` entries after the `skip` oldest, oldest first, whether they are letters or not.

        New letters do not shift them. An entry too large to be RLM's letter is returned empty.
        """
        reading: dict[str, Any] = {
            "skip": skip,
            "count": number,
            "bytes": _CHUNK_BYTES,
            "longest": self._longest,
            "at_once": 1,
        }
        return Entries.read(self._run("look_items", list=self._keys.failed, **reading)).each

    def retry(self, letters: Sequence[Placed], priorities: Mapping[str, int]) -> list[Removal | BadItemError]:
        """Make the events of letters ready, with no attempts or runs; push items without event back.

        `priorities` has the priority of each configured type; a letter of several events stays for those of other
        types. Return for each letter, the oldest first, what was done, or why its events cannot be sent.
        """
        keys = self._keys
        outcomes = [self._retry_of(one, priorities) for one in letters]
        calls = [one for one in outcomes if not isinstance(one, BadItemError)]
        names = {"failed": keys.failed, "types": keys.types, "sequence": keys.sequence, "audit": keys.events}
        names |= {"tally": keys.tally, "prefix": keys.prefix}
        done = iter(self._remove("retry_letters", calls, **names))
        return [one if isinstance(one, BadItemError) else next(done) for one in outcomes]

    def _retry_of(self, one: Placed, priorities: Mapping[str, int]) -> dict[str, Any] | BadItemError:
        """Return the letter as `retry_letters` reads it, or why it cannot be retried."""
        letter = msgspec.json.decode(one.raw, type=Envelope)
        if letter.aside is not None:
            return BadItemError(letter.reason, f"its item was moved aside unread, to {letter.aside}")
        item = letter.item_bytes
        events: list[dict[str, Any]] = []
        told: dict[str, Any] = {"letter": text(one.raw), "older": one.older, "item": text(item), "events": events}
        told |= {"wallet": "", "rest": ""}
        if not (types := letter.event_types):
            return told
        try:
            decoded = decode_item(item, max_bytes=len(item))
        except BadItemError as error:
            return error
        if not _is_own(letter, decoded):
            return BadItemError(Reason.BAD_VALUE, "its events are not of its item")
        known = [name for name in types if name in priorities]
        if not known:
            return BadItemError.unknown_types(types)
        if unknown := [name for name in types if name not in priorities]:
            told["rest"] = _with_types(one.raw, unknown).decode()
        told["wallet"] = decoded.wallet_name
        for name in known:
            event = event_id(decoded.id, name)
            offset = order_offset(priorities[name] if decoded.priority is None else decoded.priority)
            place = {"key": self._keys.event(event), "ready": self._keys.ready(name)}
            events.append({"id": event, "type": name, "offset": offset, **place})
        return told

    def drop(self, letters: Sequence[Placed]) -> list[Removal]:
        """Remove letters, and forget each event that failed with its letter; return what was done, oldest first."""
        calls = []
        for one in letters:
            event = _own_event(msgspec.json.decode(one.raw, type=Envelope))
            calls.append(
                {"letter": text(one.raw), "older": one.older, "event": self._keys.event(event) if event else ""}
            )
        return self._remove("drop_letters", calls, failed=self._keys.failed)

    def _remove(self, script: str, letters: Sequence[dict[str, Any]], **keys: str) -> list[Removal]:
        """Run a script that removes letters until it has dealt with each; those removed shift the newer ones."""
        done: list[Removal] = []
        while rest := letters[len(done) :]:
            shift = done.count(Removal.DONE)
            shifted = [{**one, "older": one["older"] - shift} for one in rest]
            done += map(Removal, self._run(script, **keys, letters=shifted))
        return done

    def surplus(self, keep: int) -> list[bytes]:
        """Return what to archive next: some of the oldest entries beyond the newest `keep`, oldest first."""
        number = min(_CHUNK, self.count() - keep)
        return self.oldest(0, number) if number > 0 else []

    def trim(self, token: int, letters: Sequence[bytes]) -> int:
        """Remove the oldest entries, the archived `letters`; return how many. May be repeated.

        An entry that was too large to be read is moved aside.
        """
        keys, digests = (
            self._keys,
            [hashlib.sha1(one, usedforsecurity=False).hexdigest() if one else "" for one in letters],
        )
        return int(
            self._run(
                "trim_letters", lease=keys.lease, failed=keys.failed, aside=keys.aside, token=token, digests=digests
            )
        )


def is_letter(raw: bytes) -> bool:
    """Return whether an entry of the list is a letter that RLM wrote, or a similar one."""
    try:
        msgspec.json.decode(raw)  # all of it, as its readers do
        msgspec.json.decode(raw, type=Envelope).item_bytes  # noqa: B018  # it may raise
    except (ValueError, TypeError, KeyError, RecursionError):  # other programs may push here
        return False
    return True


def _own_event(letter: Envelope) -> str:
    """Return the id of a letter's event; "" if it has none, or one that does not belong to its item."""
    if not letter.event_id:
        return ""
    try:
        item = decode_item(letter.item_bytes, max_bytes=len(letter.item_bytes))
    except BadItemError:
        return ""
    return letter.event_id if _is_own(letter, item) else ""


def _is_own(letter: Envelope, item: Item) -> bool:
    """Return whether the events of a letter belong to its item.

    If not, an unknown type has a colon and ends like a known type, or another program wrote the letter; its event id
    must not get into keys and headers unchecked.
    """
    types = letter.event_types
    if not set(types) <= set(item.types):
        return False
    return letter.event_id is None or (
        is_name(types[0]) and [letter.event_id] == [event_id(item.id, one) for one in types]
    )


def _with_types(raw: bytes, types: Sequence[str]) -> bytes:
    """Return a letter as it stays for some of its types, unchanged but for what names them."""
    fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    detail = msgspec.json.encode(str(BadItemError.unknown_types(types)))
    return msgspec.json.encode({**fields, "detail": msgspec.Raw(detail), "types": types})
