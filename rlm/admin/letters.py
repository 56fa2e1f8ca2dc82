"""Dead letters: find, filter and group them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from rlm.core.clock import isoformat
from rlm.core.errors import NoSuchLetterError
from rlm.core.item import BadItemError, decode_item
from rlm.ledger import Store
from rlm.ledger.archive import Archive
from rlm.ledger.letters import Envelope

#: The HTTP status in the detail of a letter, if an answer caused it.
_STATUS = re.compile(r"\bHTTP \d{3}\b")
#: What a letter contains if its text may be spelled otherwise: escaped, or as base64.
_OTHERWISE = ("\\u", "\\/", '"base64"')
#: A searched field that is no text; `str` spells it otherwise than JSON.
_NO_TEXT = re.compile(r'"(?:id|wallet_name|detail)"\s*:\s*[^"\s]')


class DeadLetter(Envelope):
    """A dead letter; `event_id` is None if its item as a whole is the letter."""

    endpoint: object = None

    @classmethod
    def read(cls, raw: bytes) -> DeadLetter:
        """Decode a letter of the list."""
        return msgspec.json.decode(raw, type=cls)

    @property
    def type(self) -> str | None:
        """The type of its event; None if it has none, or several."""
        return self.event_types[0] if len(self.event_types) == 1 else None

    @property
    def answer(self) -> str | None:
        """The status of the answer that caused it, `HTTP 500`; None if none did."""
        status = _STATUS.search(str(self.detail)) if self.endpoint else None
        return status[0] if status else None

    @property
    def item_fields(self) -> dict[str, Any]:
        """The fields of its item; empty if it is not a JSON object."""
        try:
            fields = msgspec.json.decode(self.item_bytes)
        except (ValueError, RecursionError):
            return {}
        return fields if isinstance(fields, dict) else {}

    def hopeless(self, max_item_bytes: int) -> str:
        """Return why a retry can only make a dead letter again; empty if it may succeed.

        It applies today's rules to the item in the letter.
        """
        if self.event_types:
            return ""
        if self.aside is not None:
            return f"its item was moved aside unread, to {self.aside}"
        try:
            decode_item(self.item_bytes, max_item_bytes)
        except BadItemError as error:
            return f"{error.reason}, {error}"
        return ""


def may_contain(*texts: str) -> Callable[[bytes], bool]:
    """Return a test of a letter before it is decoded, which costs ten times as much: false if it has none of `texts`.

    Case is ignored. A letter that is not plain may have any text. A text that JSON escapes may be in any letter,
    because an item is searched as it came if it is no object.
    """
    plain = (one if json.dumps(one, ensure_ascii=False) == f'"{one}"' else "" for one in texts)
    needles = (*map(str.casefold, plain), *_OTHERWISE)

    def test(raw: bytes) -> bool:
        letter = raw.decode(errors="replace").casefold()
        for one in needles:  # any() takes three times as long
            if one in letter:
                return True
        return _NO_TEXT.search(letter) is not None

    return test


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Criteria for letters: a letter must match each given criterion; of several values, one is enough.

    `since` is in seconds since 1970. `text` is searched for in the ids of event and item, the wallet name and the
    detail, ignoring case. `answers` are values of `DeadLetter.answer`.
    """

    types: Collection[str] = ()
    reasons: Collection[str] = ()
    endpoints: Collection[str] = ()
    since: float | None = None
    text: str = ""
    answers: Collection[str] = ()

    def __bool__(self) -> bool:
        """Return whether there is any criterion; without one all letters match."""
        return self.since is not None or any((self.types, self.reasons, self.endpoints, self.answers, self.text))

    def find(self, store: Store) -> Iterator[bytes]:
        """Yield the matching letters, newest first."""
        return filter(self.fits, store.letters.all(*self.quick()))

    def quick(self) -> list[Callable[[bytes], bool]]:
        """Return tests of an entry before it is decoded; each letter that `fits` passes them."""
        asked = (self.types, self.reasons, self.endpoints, self.answers, [self.text] if self.text else ())
        return [may_contain(*one) for one in asked if one]

    def fits(self, raw: bytes) -> bool:
        """Return whether a letter matches."""
        if not self:
            return True
        letter = DeadLetter.read(raw)
        return (
            (not self.types or not set(letter.event_types).isdisjoint(self.types))
            and (not self.reasons or letter.reason in self.reasons)
            and (not self.endpoints or letter.endpoint in self.endpoints)
            and (not self.answers or letter.answer in self.answers)
            and (self.since is None or str(letter.failed_at) >= isoformat(max(0.0, self.since)))
            and (not self.text or self.text.casefold() in _searched(letter).casefold())
        )


def _searched(letter: DeadLetter) -> str:
    fields = letter.item_fields
    item = [fields.get("id"), fields.get("wallet_name")] if fields else [letter.item_bytes.decode(errors="replace")]
    return "\n".join(str(one) for one in (letter.id, letter.event_id, letter.detail, *item) if one is not None)


def grouped(letters: Iterable[bytes], store: Store | None = None) -> list[dict[str, Any]]:
    """Return the number of letters of each kind, most first, with the times of the newest and the oldest.

    A kind has one reason, endpoint and type, and one status if an answer caused its letters. With a `store`, each kind
    also has the number of `sendable` letters, of which a retry may succeed.
    """
    found: dict[tuple[str | None, ...], dict[str, Any]] = {}
    for letter in map(DeadLetter.read, letters):  # newest first
        kind = letter.reason, letter.answer, str(letter.endpoint) if letter.endpoint else None, letter.type
        if (group := found.get(kind)) is None:
            counts = {"letters": 0} | ({"sendable": 0} if store else {})
            told = dict(zip(("reason", "answer", "endpoint", "type"), kind, strict=True))
            group = found[kind] = {**counts, **told, "newest": letter.failed_at, "newest_id": letter.id}
        group["letters"] += 1
        if store and not is_unsendable(store, letter):
            group["sendable"] += 1
        group["oldest"] = letter.failed_at
    return sorted(found.values(), key=lambda group: -int(group["letters"]))


def letter_page(store: Store, wanted: LetterFilter, number: int, behind: int = 0) -> dict[str, Any]:
    """Return `number` matching letters, newest first, after skipping `behind` of them; and the groups of all matches.

    `fitting` counts the matching letters, `total` all letters. A letter is as in `rlm failed list --json`, with
    `sendable` added.
    """
    page: list[bytes] = []
    fitting = 0

    def matching() -> Iterator[bytes]:
        nonlocal fitting
        for raw in wanted.find(store):
            if behind <= fitting < behind + number:
                page.append(raw)
            fitting += 1
            yield raw

    groups = grouped(matching(), store)
    letters = [{**msgspec.json.decode(raw), "sendable": not is_unsendable(store, DeadLetter.read(raw))} for raw in page]
    return {"letters": letters, "groups": groups, "fitting": fitting, "total": store.letters.count()}


def is_unsendable(store: Store, letter: DeadLetter) -> bool:
    """Return whether a retry skips the letter because it is hopeless, or refuses it."""
    return is_refused(store, letter) or bool(letter.hopeless(store.settings.queue.max_item_bytes))


def is_refused(store: Store, letter: DeadLetter) -> bool:
    """Return whether a retry is refused, as far as the letter shows: it has no item, or no type that is configured."""
    if letter.aside is not None:
        return True
    return bool(letter.event_types) and store.settings.types.keys().isdisjoint(letter.event_types)


def find_letters(store: Store, ids: Sequence[str]) -> dict[str, bytes]:
    """Return the letters with these ids, in the given order; raise a NoSuchLetterError for an unknown id."""
    wanted, found = set(ids), dict[str, bytes]()
    for raw in store.letters.all():
        if (handle := DeadLetter.read(raw).id) in wanted:
            found.setdefault(handle, raw)
            if len(found) == len(wanted):
                break
    if unknown := [repr(handle) for handle in dict.fromkeys(ids) if handle not in found]:
        older = Archive(store.settings.archive_dir).hint()
        words = f"No dead letter {', '.join(unknown)}; nothing was changed. `rlm failed list` shows those there are."
        raise NoSuchLetterError(words + older)
    return {handle: found[handle] for handle in ids}
