"""Dead letters: list them, send their events again, drop them, and archive what is more than Redis keeps.

The archive is one file of JSON lines a month. RLM only appends to it; the operator may move or delete it. A crash
between writing a line and removing it from Redis repeats the line, so identify letters by `id`.
"""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from enum import IntEnum
from pathlib import Path

import msgspec
from msgspec import structs

from rlm.core.clock import isoformat, system_clock
from rlm.core.errors import ArchiveError, UnsafeError
from rlm.core.files import CAREFUL, FILE_MODE, claim_directory
from rlm.core.item import NOT_EMBEDDABLE, BadItemError, Item, Reason, decode_item, event_id, type_of
from rlm.core.text import is_name
from rlm.ledger.scripts import PAGE, Access, Part

#: Dead letters that Redis keeps; the oldest beyond them are moved to the archive.
MOST_LETTERS = 100_000
#: Pause after the disk refused, seconds; each failure is logged.
REFUSED_SECONDS = 30.0

log = logging.getLogger(__name__)


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

    def own_item(self) -> Item:
        """Return the item of a letter of events.

        Raises:
            BadItemError: it is none, or the events are not of the item: an unknown type has a colon and ends like a
                known type, or another program wrote the letter; its event id must not get into keys and headers.
        """
        item, types = decode_item(self.item_bytes, max_bytes=len(self.item_bytes)), self.event_types
        is_own = self.event_id is None or (is_name(types[0]) and self.event_id == event_id(item.id, types[0]))
        if not (is_own and set(types) <= set(item.types)):
            raise BadItemError(Reason.BAD_VALUE, "its events are not of its item")
        return item


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
        orders = [_retry_of(raw, priorities) for raw in letters]
        done = iter(self._remove([order for order in orders if isinstance(order, _Order)]))
        return [next(done) if isinstance(order, _Order) else order for order in orders]

    def drop(self, letters: Sequence[bytes]) -> list[Removal]:
        """Remove letters, and forget each event that failed with its letter; return what was done."""
        return self._remove([_Order(raw, dropped=_own_event(raw)) for raw in letters])

    def _remove(self, orders: Sequence[_Order]) -> list[Removal]:
        keys = {"failed": self._keys.failed, "audit": self._keys.events}
        return list(map(Removal, self._run_each("remove_letter", [keys | structs.asdict(order) for order in orders])))

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


def _retry_of(raw: bytes, priorities: Mapping[str, int]) -> _Order | BadItemError:
    """Return the order to retry a letter, or why it cannot be retried."""
    letter = msgspec.json.decode(raw, type=Envelope)
    if letter.aside is not None:
        return BadItemError(letter.reason, f"its item was moved aside unread, to {letter.aside}")
    order, types = _Order(raw, item=letter.item_bytes), letter.event_types
    if not types:
        return order
    try:
        item = letter.own_item()
    except BadItemError as error:
        return error
    for name in filter(priorities.__contains__, types):
        order.retried.append((event_id(item.id, name), item.wallet_name, item.offset(priorities[name])))
    if not order.retried:
        return BadItemError.unknown_types(types)
    if unknown := [name for name in types if name not in priorities]:
        rest = {"detail": str(BadItemError.unknown_types(unknown)), "types": unknown}
        order.rest = msgspec.json.encode({**msgspec.json.decode(raw, type=dict[str, msgspec.Raw]), **rest})
    return order


def _own_event(raw: bytes) -> str:
    """Return the id of a letter's event; "" if it has none, or one that does not belong to its item."""
    letter = msgspec.json.decode(raw, type=Envelope)
    with suppress(BadItemError):
        letter.own_item()
        return letter.event_id or ""
    return ""


class Archivist:
    """Keeps the list of dead letters within `MOST_LETTERS`, also while letters are written.

    The oldest ones beyond it are moved to the archive, a chunk at a time.
    """

    def __init__(self, store: Access) -> None:
        self._letters = Letters(store)
        self._directory = store.settings.archive_dir
        self._refused_until, self._trouble = float("-inf"), ""

    def step(self) -> bool:
        """Move a chunk; return whether there may be more. After the disk refused, none is moved for a while."""
        more = 0 if self.trouble else self._letters.count() - MOST_LETTERS
        if more <= 0:
            return False
        surplus = self._letters.oldest(0, min(PAGE, more))
        try:
            archive(self._directory, surplus, system_clock.now())
        except ArchiveError as error:
            self._refused_until, self._trouble = system_clock.monotonic() + REFUSED_SECONDS, str(error)
            message = "Dead letters stay in Redis, and no more items are taken, because %s; trying again in %.0f s"
            log.warning(message, error, REFUSED_SECONDS, extra={"action": "archive"})
            return False
        self._letters.trim(surplus)
        return True

    @property
    def trouble(self) -> str:
        """Why the disk has refused lately, empty if it has not. Until it takes the letters, nothing may make more."""
        return self._trouble if system_clock.monotonic() < self._refused_until else ""


def archive(directory: Path, entries: Sequence[bytes], now: float) -> Path:
    """Append `entries` to the file in `directory` for the month of `now` (seconds since 1970); return its path.

    On return all are on disk. After an error none may be, or some; they are written again.

    Raises:
        ArchiveError: the disk refused, or the directory cannot be used.
    """
    path = directory / f"failed-{isoformat(now)[:7]}.jsonl"
    # JSON has line breaks only between its parts, so spaces may replace them.
    lines = b"".join(entry.translate(bytes.maketrans(b"\r\n", b"  ")) + b"\n" for entry in entries)
    try:
        claim_directory(directory)
        opened = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | CAREFUL, FILE_MODE)
        with os.fdopen(opened, "a+b") as file:
            end = file.tell()
            if end and os.pread(file.fileno(), 1, end - 1) != b"\n":  # a crash cut the last line short
                lines = b"\n" + lines
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        opened = os.open(directory, os.O_RDONLY | CAREFUL)
        try:
            os.fsync(opened)  # makes the name of a new file durable
        finally:
            os.close(opened)
    except (OSError, UnsafeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ArchiveError(f"the archive {str(path)!r} cannot be written ({why})") from error
    return path
