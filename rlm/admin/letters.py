"""Dead letters: find, filter and group them; retry or drop the named or matching ones."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import Any

import msgspec

from rlm.core.clock import isoformat
from rlm.core.errors import NoSuchLetterError
from rlm.core.item import NOT_EMBEDDABLE, BadItemError, decode_item, type_of
from rlm.ledger import Store
from rlm.ledger.archive import Archive, ArchiveKind
from rlm.ledger.letters import Envelope, Placed, Removal, SpentLetterError, is_letter, is_nameless, spent

#: The HTTP status in the detail of a letter, if an answer caused it.
_STATUS = re.compile(r"\bHTTP \d{3}\b")
#: Letters dealt with at a time, for which Redis is held up by milliseconds.
_PAGE = 100


class DeadLetter(Envelope):
    """A dead letter; `event_id` is None if its item as a whole is the letter."""

    endpoint: object = None

    @classmethod
    def read(cls, raw: bytes) -> DeadLetter:
        """Decode a letter of the list."""
        return msgspec.json.decode(raw, type=cls)

    @property
    def type(self) -> str | None:
        """The type of its event."""
        return type_of(self.event_id) if self.event_id else None

    @property
    def answer(self) -> str | None:
        """The status of the answer that caused it, `HTTP 500`; None if none did."""
        status = _STATUS.search(str(self.detail)) if self.endpoint else None
        return status[0] if status else None

    @property
    def item_bytes(self) -> bytes:
        """Its item as it was pushed, or the beginning of it."""
        raw = bytes(self.item)
        return base64.b64decode(msgspec.json.decode(raw)["base64"]) if self.reason in NOT_EMBEDDABLE else raw

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

        It applies today's rules to the item in the letter, which may be truncated.
        """
        if (why := spent(self)) or self.event_id is not None:
            return why
        if is_nameless(self):
            return "its type is not a valid name"
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

    def fits(self, raw: bytes) -> bool:
        """Return whether a letter matches."""
        if not self:
            return True
        letter = DeadLetter.read(raw)
        return (
            (not self.types or letter.type in self.types)
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
        kind = {
            "reason": letter.reason,
            "answer": letter.answer,
            "endpoint": str(letter.endpoint) if letter.endpoint else None,
            "type": letter.type,
        }
        newest = {"newest": letter.failed_at, "newest_id": letter.id}
        counts = {"letters": 1} | ({"sendable": int(not is_unsendable(store, letter))} if store else {})
        group = found.setdefault(tuple(kind.values()), {**dict.fromkeys(counts, 0), **kind, **newest})
        group |= {name: group[name] + number for name, number in counts.items()}
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
        for raw in filter(wanted.fits, store.letters.all()):
            if behind <= fitting < behind + number:
                page.append(raw)
            fitting += 1
            yield raw

    groups = grouped(matching(), store)
    letters = [{**msgspec.json.decode(raw), "sendable": not is_unsendable(store, DeadLetter.read(raw))} for raw in page]
    return {"letters": letters, "groups": groups, "fitting": fitting, "total": store.letters.count()}


def is_unsendable(store: Store, letter: DeadLetter) -> bool:
    """Return whether a retry skips the letter because it is hopeless, or refuses it."""
    return bool(letter.hopeless(store.settings.queue.max_item_bytes)) or is_refused(store, letter)


def is_refused(store: Store, letter: DeadLetter) -> bool:
    """Return whether a retry is refused, as far as the letter shows: it is spent, or its type is not configured."""
    return bool(spent(letter)) or letter.type not in {None, *store.settings.types}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result for one letter. `refused` is why nothing was done, else empty; `kept`: the letter is still there.

    A `left` letter was not tried, because it could not succeed. `as_item`: the letter had no event, so its retry put
    its item back on the audit list.
    """

    id: str
    refused: str = ""
    kept: bool = False
    left: bool = False
    as_item: bool = False


def find_letters(store: Store, ids: Sequence[str]) -> dict[str, bytes]:
    """Return the letters with these ids, in the given order; raise a NoSuchLetterError for an unknown id."""
    wanted, found = set(ids), dict[str, bytes]()
    for raw in store.letters.all():
        if (handle := DeadLetter.read(raw).id) in wanted:
            found.setdefault(handle, raw)
            if len(found) == len(wanted):
                break
    if unknown := [repr(handle) for handle in dict.fromkeys(ids) if handle not in found]:
        older = Archive(store.settings.archive_dir).hint(ArchiveKind.FAILED)
        words = f"No dead letter {', '.join(unknown)}; nothing was changed. `rlm failed list` shows those there are."
        raise NoSuchLetterError(words + older)
    return {handle: found[handle] for handle in ids}


class Deal(StrEnum):
    """What is done to letters; documents use the value as the key of the letters it was done to."""

    RETRY = "retried"
    DROP = "dropped"


@dataclass(frozen=True, slots=True)
class Dealing:
    """An order: what to do to which letters, by id or by filter."""

    deal: Deal
    ids: Sequence[str] = ()
    chosen: LetterFilter = field(default_factory=LetterFilter)

    def count(self, store: Store) -> tuple[int, int, int]:
        """Return the number of letters it applies to, and of those a retry would skip and refuse."""
        total = left = refused = 0
        named = find_letters(store, self.ids).values() if self.ids else None
        for raw in filter(self.chosen.fits, store.letters.all()) if named is None else named:
            total += 1
            if self.deal is Deal.RETRY and is_unsendable(store, letter := DeadLetter.read(raw)):
                is_left = named is None and bool(letter.hopeless(store.settings.queue.max_item_bytes))
                left += is_left
                refused += not is_left and is_refused(store, letter)
        return total, left, refused

    def carry_out(self, store: Store, most: int) -> list[Outcome]:
        """Apply the order to the first `most` named letters, or the oldest matching ones; to none if an id is unknown.

        A letter that is not named is skipped if its item can only become a dead letter again.
        """
        if self.ids:
            named = list(find_letters(store, self.ids).values())[:most]
            return [outcome for raw in named for outcome in self._apply(store, [Placed(raw)])]
        return list(self._oldest(store, most))

    def _oldest(self, store: Store, most: int) -> Iterator[Outcome]:
        """Apply it to the `most` oldest matching letters, oldest first, a page at a time; not to new letters."""
        older = 0
        while most > 0 and (page := store.letters.oldest(older, _PAGE)):
            placed = map(Placed, page, count(older))
            matching = [one for one in placed if is_letter(one.raw) and self.chosen.fits(one.raw)][:most]
            outcomes = self._apply(store, matching)
            most -= len(matching)
            older += len(page) - sum(not one.kept for one in outcomes)
            yield from outcomes

    def _apply(self, store: Store, placed: Sequence[Placed]) -> list[Outcome]:
        """Apply it to letters of one page; to a hopeless one only if it is named."""
        letters = [DeadLetter.read(one.raw) for one in placed]
        if self.deal is Deal.DROP:
            gone = "it is no longer there; somebody else has removed it"
            dropped = zip(letters, store.letters.drop(placed), strict=True)
            return [Outcome(letter.id, "" if done else gone) for letter, done in dropped]
        largest = store.settings.queue.max_item_bytes
        hopeless = ["" if self.ids else letter.hopeless(largest) for letter in letters]
        tried = [one for one, why in zip(placed, hopeless, strict=True) if not why]
        results = iter(store.letters.retry(tried, {one.name: one.priority for one in store.settings.event_types}))
        return [
            Outcome(letter.id, why, kept=True, left=True) if why else _retried(letter, next(results))
            for letter, why in zip(letters, hopeless, strict=True)
        ]

    def foretold(self, total: int, left: int, refused: int) -> dict[str, Any]:
        """Return the document of `--dry-run` for the result of `count`."""
        of_retry = {"left": [], "would_be_left": left, "would_be_refused": refused} if self.deal is Deal.RETRY else {}
        return {self.deal: [], "refused": [], f"would_be_{self.deal}": total - left - refused, **of_retry}

    def done(self, outcomes: Sequence[Outcome], more: int = 0) -> dict[str, Any]:
        """Return the document for the result of `carry_out`; `more` letters match and were not handled."""
        told = {"refused": [one for one in outcomes if one.refused and not one.left]}
        if self.deal is Deal.RETRY:
            told["left"] = [one for one in outcomes if one.left]
        entries = {name: [{"id": one.id, "reason": one.refused} for one in each] for name, each in told.items()}
        return {self.deal: [one.id for one in outcomes if not one.refused], **entries, "more": more}


def _retried(letter: DeadLetter, result: Removal | BadItemError) -> Outcome:
    """Return the outcome of a retry; a letter without an event put its item back on the audit list."""
    drop = f"`rlm failed drop {letter.id}`"
    if result is Removal.DONE:
        return Outcome(letter.id, as_item=letter.event_id is None)
    if result is Removal.GONE:
        return Outcome(letter.id, "it is no longer there; somebody else has retried or dropped it")
    if result is Removal.UNDER_WAY:
        why = f"its event is under way again; {drop} removes the old letter alone"
    elif isinstance(result, SpentLetterError):
        why = f"{result}; push the item again, then remove the letter with {drop}"
    else:
        why = f"{result}; correct the configuration, or drop it with {drop}"
    return Outcome(letter.id, why, kept=True)
