"""Dead letters: writing and listing them, sending a letter's event into the next run, and dropping letters."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec

from rlm.core.errors import StoreForbiddenError
from rlm.core.item import (
    NOT_EMBEDDABLE,
    BadItemError,
    Excerpt,
    Item,
    Reason,
    decode_item,
    encode_letter,
    event_id,
    order_offset,
    type_of,
)
from rlm.core.text import is_name
from rlm.ledger.connect import translated
from rlm.ledger.keys import longest_letter
from rlm.ledger.quarantine import Giants
from rlm.ledger.scripts import Argument, Call, Part

if TYPE_CHECKING:
    from rlm.ledger.front import StoreFront

#: Limits of one read: the number of letters, and the bytes after which it ends.
_PAGE = 500
_CHUNK = 200
_CHUNK_BYTES = 1_000_000
#: How many bytes of an item its letters may hold together; further letters hold an excerpt.
WHOLE_BYTES = 256_000
_ELSEWHERE = "other letters of this item hold it whole, this one only its beginning"
#: The fields of an excerpt, which replaces the item in a letter.
_EXCERPT = {"base64", "truncated", "bytes", "sha256"}
_EXCERPTED = frozenset({Reason.TOO_LARGE, Reason.UNKNOWN_TYPE})


class SpentLetterError(BadItemError):
    """Raised when no configuration can make a letter's event possible; push the item again, corrected if necessary."""


class Envelope(msgspec.Struct):
    """The parts of a letter that RLM uses."""

    id: str
    reason: Reason
    event_id: str | None
    item: msgspec.Raw
    detail: object = ""
    failed_at: object = ""


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

    def write(self, item: bytes | Excerpt, error: BadItemError, event: str | None = None) -> bytes:
        """Return the letter of an item, or of its invalid `event`."""
        self._at = self._at or self._now()
        return encode_letter(item, error.reason, error.detail, failed_at=self._at, run_id=self._run_id, event=event)

    def unknown(self, raw: bytes, item: Item, configured: Container[str]) -> Iterator[bytes]:
        """Yield a letter for each unconfigured type of an item; the first ones hold the whole item.

        A letter has no event id if the type's name is invalid: `a` + `b:T` would be the id of `a:b` + `T`.
        """
        unknown = [event for event in item.events if event.type not in configured]
        whole = max(1, WHOLE_BYTES // len(raw))
        excerpt = Excerpt.of(raw) if len(unknown) > whole else None
        for number, event in enumerate(unknown):
            error, of = BadItemError.unknown_type(event.type), event.id if is_name(event.type) else None
            if excerpt is None or number < whole:
                yield self.write(raw, error, of)
            else:
                yield self.write(excerpt, BadItemError(error.reason, f"{error.detail}; {_ELSEWHERE}"), of)


class Letters(Part):
    """The list of dead letters, newest first. Each letter has an `id`."""

    def __init__(self, store: StoreFront) -> None:
        super().__init__(store)
        self._longest = longest_letter(store.settings.queue.max_item_bytes)
        self._giants = Giants(store, store.keys.failed, self._longest)

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
        args = [skip, number, _CHUNK_BYTES, self._longest, 1]
        return cast("list[bytes]", self._run("look_items", [self._keys.failed], args)[1:])

    def retry(self, letters: Sequence[Placed], priorities: Mapping[str, int]) -> list[Removal | BadItemError]:
        """Send the events of letters into the next run, with no attempts or runs; push items without event back.

        `priorities` has the priority of each configured type. Return for each letter, the oldest first, what was done,
        or why its event cannot be sent: its type is not configured, its item is bad, or, as a SpentLetterError, never.
        """
        keys = self._keys
        outcomes = [self._retry_of(one, priorities) for one in letters]
        calls = [one for one in outcomes if isinstance(one, tuple)]
        done = iter(self._remove("retry_letters", [keys.failed, keys.types, keys.sequence], calls))
        return [next(done) if isinstance(one, tuple) else one for one in outcomes]

    def _retry_of(self, one: Placed, priorities: Mapping[str, int]) -> tuple[Placed, Call] | BadItemError:
        """Return the letter with its keys and arguments of `retry_letters`, or why it cannot be retried."""
        letter = msgspec.json.decode(one.raw, type=Envelope)
        if why := spent(letter):
            return SpentLetterError(letter.reason, why)
        item, keys, event = _item_of(letter), self._keys, letter.event_id or ""
        if not event:
            item = _nameless_part(item) if is_nameless(letter) else item
            return one, ([keys.events, keys.retried("")], ["", "", "", item, 0])
        if (name := type_of(event)) not in priorities:
            return BadItemError.unknown_type(name)
        try:
            decoded = decode_item(item, max_bytes=len(item))
        except BadItemError as error:
            return error
        if not _is_own(event, decoded):
            return BadItemError.unknown_type(event.removeprefix(f"{decoded.id}:"))
        priority = priorities[name] if decoded.priority is None else decoded.priority
        args: list[Argument] = [event, name, decoded.wallet_name, item, order_offset(priority)]
        return one, ([keys.event(event), keys.retried(name)], args)

    def drop(self, letters: Sequence[Placed]) -> list[Removal]:
        """Remove letters, and forget each event that failed with its letter; return what was done, oldest first."""
        events = [_own_event(msgspec.json.decode(one.raw, type=Envelope)) for one in letters]
        calls = [(one, ([self._keys.event(event)], [event])) for one, event in zip(letters, events, strict=True)]
        return self._remove("drop_letters", [self._keys.failed], calls)

    def _remove(self, script: str, keys: Sequence[str], calls: Sequence[tuple[Placed, Call]]) -> list[Removal]:
        """Run a script that removes letters until it has dealt with each; those removed shift the newer ones."""
        done: list[Removal] = []
        while rest := calls[len(done) :]:
            shift = done.count(Removal.DONE)
            names = [*keys, *(name for _, (of_letter, _) in rest for name in of_letter)]
            args = [arg for one, (_, more) in rest for arg in (one.raw, one.older - shift, *more)]
            done += map(Removal, self._run(script, names, [2 + len(rest[0][1][1]), *args]))
        return done

    def held_bytes(self) -> int | None:
        """Return how many bytes of memory the list takes; None if this Redis user may not ask."""
        try:
            with translated(self._client):
                return int(self._client.memory_usage(self._keys.failed, samples=0) or 0)
        except StoreForbiddenError:
            return None

    def surplus(self, token: int, keep: int, keep_bytes: int) -> tuple[str, list[bytes]]:
        """Return what to archive next: the name of a giant or "", and some of the oldest entries, oldest first.

        Entries are surplus while there are more than `keep`, or they take more memory than `keep_bytes`.
        """
        number, size = min(_CHUNK, self.count() - keep), _CHUNK_BYTES
        if number <= 0 and (over := (self.held_bytes() or 0) - keep_bytes) > 0:
            number, size = _CHUNK, min(size, over)
        return self._giants.peek(token, max(0, number), size)

    def pieces(self, giant: str) -> Iterator[bytes]:
        """Yield an entry that is too large to read, piece by piece."""
        return self._giants.pieces(giant)

    def trim_giant(self, token: int, giant: str) -> None:
        """Remove an archived entry that is too large to read. May be repeated."""
        keys = self._keys
        self._run("trim_giant", [keys.lease, keys.aside(keys.failed), keys.giant(giant)], [token, giant])

    def trim(self, token: int, letters: Sequence[bytes]) -> int:
        """Remove the oldest entries, the archived `letters`; return how many. May be repeated."""
        digests = [hashlib.sha1(one, usedforsecurity=False).hexdigest() for one in letters]
        return int(self._run("trim_letters", [self._keys.lease, self._keys.failed], [token, *digests]))


def is_letter(raw: bytes) -> bool:
    """Return whether an entry of the list is a letter that RLM wrote, or a similar one."""
    try:
        msgspec.json.decode(raw)  # all of it, as its readers do
        _item_of(msgspec.json.decode(raw, type=Envelope))
    except (ValueError, TypeError, KeyError, RecursionError):  # other programs may push here
        return False
    return True


def _own_event(letter: Envelope) -> str:
    """Return the id of a letter's event; "" if it has none, or one that does not belong to its item."""
    if not letter.event_id or is_excerpt(letter):  # an event with an excerpt was never taken
        return ""
    item = _item_of(letter)
    try:
        return letter.event_id if _is_own(letter.event_id, decode_item(item, max_bytes=len(item))) else ""
    except BadItemError:
        return ""


def _is_own(event: str, item: Item) -> bool:
    """Return whether `event` belongs to the item.

    If not, its unknown type has a colon and ends like a known type, or another program wrote the letter; its event id
    must not get into keys and headers unchecked.
    """
    name = type_of(event)
    return is_name(name) and name in item.types and event == event_id(item.id, name)


def spent(letter: Envelope) -> str:
    """Return why a letter can never be retried; empty if it can."""
    return "it holds only the beginning of its item" if is_excerpt(letter) else ""


def is_nameless(letter: Envelope) -> bool:
    """Return whether a letter is for a type whose name no configuration can have."""
    return letter.reason is Reason.UNKNOWN_TYPE and letter.event_id is None


def is_excerpt(letter: Envelope) -> bool:
    """Return whether a letter holds an excerpt; for these reasons an item cannot be mistaken for one."""
    if letter.reason not in _EXCERPTED or b"sha256" not in bytes(letter.item):
        return False
    held = msgspec.json.decode(letter.item)
    return isinstance(held, dict) and set(held) == _EXCERPT


def _item_of(letter: Envelope) -> bytes:
    raw = bytes(letter.item)
    return base64.b64decode(msgspec.json.decode(raw)["base64"]) if letter.reason in NOT_EMBEDDABLE else raw


def _nameless_part(item: bytes) -> bytes:
    """Return an item with only those types whose letters have no event id; the others were taken, or have one.

    The rest of the item stays unchanged, byte for byte.
    """
    fields = msgspec.json.decode(item, type=dict[str, msgspec.Raw])
    types = msgspec.json.decode(fields["events"], type=list[str])
    nameless = [name for name in types if not is_name(name)]
    if len(nameless) == len(types):
        return item
    return msgspec.json.encode({**fields, "events": msgspec.Raw(msgspec.json.encode(nameless))})
