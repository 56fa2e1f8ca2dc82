"""Dead letters: find, filter and group them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from rlm.core.clock import isoformat
from rlm.core.documents import LetterGroup
from rlm.core.errors import NoSuchLetterError
from rlm.core.item import BadItemError, decode_item
from rlm.ledger.letters import Envelope, archive_hint
from rlm.ledger.store import Store

#: The HTTP status in the detail of a letter, if an answer caused it.
_STATUS = re.compile(r"\bHTTP \d{3}\b")


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
        return filter(self.fits, store.letters.all())

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


def grouped(letters: Iterable[bytes], store: Store) -> list[LetterGroup]:
    """Return the number of letters of each kind, most first, with the times of the newest and the oldest.

    A kind has one reason, endpoint and type, and one status if an answer caused its letters. Of `sendable` letters a
    retry may succeed.
    """
    groups: dict[tuple[str | None, ...], LetterGroup] = {}
    for letter in map(DeadLetter.read, letters):  # newest first
        kind = letter.reason, letter.answer, str(letter.endpoint) if letter.endpoint else None, letter.type
        at, sendable = str(letter.failed_at), int(not is_unsendable(store, letter))
        if (group := groups.get(kind)) is None:
            reason, answer, endpoint, type_name = kind
            group = LetterGroup(
                letters=0,
                sendable=0,
                reason=reason,
                answer=answer,
                endpoint=endpoint,
                type=type_name,
                newest=at,
                oldest=at,
            )
        groups[kind] = replace(group, letters=group.letters + 1, sendable=group.sendable + sendable, oldest=at)
    return sorted(groups.values(), key=lambda group: -group.letters)


class LetterPage(NamedTuple):
    """Matching letters as they lie in Redis, and the groups of all matches.

    `fitting` counts the matching letters, `total` all letters.
    """

    letters: list[bytes]
    groups: list[LetterGroup]
    fitting: int
    total: int


def letter_page(store: Store, chosen: LetterFilter, number: int, behind: int = 0) -> LetterPage:
    """Return `number` matching letters, newest first, after skipping `behind` of them."""
    page: list[bytes] = []
    fitting = 0

    def matching() -> Iterator[bytes]:
        nonlocal fitting
        for raw in chosen.find(store):
            if behind <= fitting < behind + number:
                page.append(raw)
            fitting += 1
            yield raw

    groups = grouped(matching(), store)
    return LetterPage(page, groups, fitting, store.letters.count())


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
    letters = {handle: raw for raw in store.letters.all() if (handle := DeadLetter.read(raw).id) in ids}
    if unknown := [repr(handle) for handle in dict.fromkeys(ids) if handle not in letters]:
        older = archive_hint(store.settings.archive_dir)
        words = f"No dead letter {', '.join(unknown)}; nothing was changed. `rlm failed list` shows those there are."
        raise NoSuchLetterError(words + older)
    return {handle: letters[handle] for handle in ids}
