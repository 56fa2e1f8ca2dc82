"""Dead letters: find, filter and group them; retry or drop them one after the other, each with its outcome."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from rlm.core.clock import isoformat
from rlm.core.item import NOT_EMBEDDABLE, BadItemError, decode_item, type_of
from rlm.core.text import safe_line
from rlm.ledger.letters import Envelope, TruncatedLetterError, is_excerpt, is_letter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rlm.ledger import Store


#: The status in the detail of a letter that an answer caused.
_STATUS = re.compile(r"\bHTTP \d{3}\b")
#: Letters read at a time.
_PAGE = 500


class DeadLetter(Envelope):
    """A dead letter as it is read here; `event_id` is None for an item as a whole."""

    detail: object = ""
    failed_at: object = ""
    endpoint: object = None

    @classmethod
    def read(cls, raw: bytes) -> DeadLetter:
        """Read a letter as it stands in the list."""
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
        """The fields of its item; none if it is no JSON object."""
        try:
            fields = msgspec.json.decode(self.item_bytes)
        except (ValueError, RecursionError):
            return {}
        return fields if isinstance(fields, dict) else {}

    def hopeless(self, max_item_bytes: int) -> str:
        """Return why a retry can only make a dead letter again; empty if it may succeed.

        It goes by the item in the letter, of which there may be only the beginning, and by today's rules.
        """
        if is_excerpt(self):
            return "it holds only the beginning of its item"
        if self.event_id is not None:
            return ""
        try:
            decode_item(self.item_bytes, max_item_bytes)
        except BadItemError as error:
            return f"{error.reason}, {error}"
        return ""


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """A choice of letters: those that match each criterion given; one of several values is enough.

    `since` is in seconds since 1970. `text` is searched for in the ids of event and item, the name of the wallet and
    the detail, whatever its case. `answers` are as `DeadLetter.answer` has them.
    """

    types: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()
    endpoints: frozenset[str] = frozenset()
    since: float | None = None
    text: str = ""
    answers: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Return whether there is any criterion; else all letters match."""
        return self != LetterFilter()

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
    """Return the texts to search, one per line."""
    fields = letter.item_fields
    item = [fields.get("id"), fields.get("wallet_name")] if fields else [letter.item_bytes.decode(errors="replace")]
    return "\n".join(str(one) for one in (letter.id, letter.event_id, letter.detail, *item) if one is not None)


def grouped(letters: Iterable[bytes]) -> list[dict[str, Any]]:
    """Return the number of letters of each kind, the most first, with the time of the newest and the oldest.

    A kind has one reason, endpoint and type, and the status of the answer that caused its letters, if one did.
    """
    return _grouped(letters, lambda _letter: {})


def groups_to_deal_with(store: Store, letters: Iterable[bytes]) -> list[dict[str, Any]]:
    """Return the groups, and how many letters of each are `sendable`: a retry of them may succeed."""
    return _grouped(letters, lambda letter: {"sendable": int(not is_unsendable(store, letter))})


def _grouped(letters: Iterable[bytes], count: Callable[[DeadLetter], dict[str, int]]) -> list[dict[str, Any]]:
    found: dict[tuple[str | None, ...], dict[str, Any]] = {}
    for letter in map(DeadLetter.read, letters):  # the newest first
        kind = {
            "reason": letter.reason,
            "answer": letter.answer,
            "endpoint": str(letter.endpoint) if letter.endpoint else None,
            "type": letter.type,
        }
        newest = {"newest": letter.failed_at, "newest_id": letter.id}
        counts = {"letters": 1, **count(letter)}
        group = found.setdefault(tuple(kind.values()), {**dict.fromkeys(counts, 0), **kind, **newest})
        group |= {name: group[name] + number for name, number in counts.items()}
        group["oldest"] = letter.failed_at
    return sorted(found.values(), key=lambda group: -int(group["letters"]))


def letter_page(store: Store, wanted: LetterFilter, number: int, behind: int = 0) -> dict[str, Any]:
    """Return `number` letters that match, newest first, behind the newest `behind` of them; and the groups of all.

    `fitting` counts those that match, `total` all there are. A letter is as `rlm failed list --json` prints it, and
    whether it is `sendable`.
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

    groups = groups_to_deal_with(store, matching())
    letters = [{**msgspec.json.decode(raw), "sendable": not is_unsendable(store, DeadLetter.read(raw))} for raw in page]
    return {"letters": letters, "groups": groups, "fitting": fitting, "total": store.letters.count()}


def count_unsendable(store: Store, letters: Iterable[bytes]) -> int:
    """Count the letters that a retry leaves or refuses."""
    return sum(is_unsendable(store, DeadLetter.read(raw)) for raw in letters)


def is_unsendable(store: Store, letter: DeadLetter) -> bool:
    """Return whether a retry leaves or refuses it: it is hopeless, or its type is not configured."""
    types, most = store.settings.types, store.settings.queue.max_item_bytes
    return (letter.type is not None and letter.type not in types) or bool(letter.hopeless(most))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one letter; `refused` says why nothing was done, empty if it was; `kept`: it is still there.

    One that is `left` was not tried, because it could not succeed. `as_item`: the item of a retried one is back on the
    audit list, for it is the letter of no event.
    """

    id: str
    refused: str = ""
    kept: bool = False
    left: bool = False
    as_item: bool = False


def find_letters(store: Store, ids: Iterable[str]) -> dict[str, bytes]:
    """Return the letters with these ids, by id; unknown ones are missing."""
    wanted, found = set(ids), dict[str, bytes]()
    for raw in store.letters.all() if wanted else ():
        if (handle := handle_of(raw)) in wanted:
            found.setdefault(handle, raw)
            if len(found) == len(wanted):
                break
    return found


def handle_of(raw: bytes) -> str:
    """Return the id of a letter."""
    return str(msgspec.json.decode(raw)["id"])


def item_text(raw: bytes) -> str:
    """Return the item of a letter for a person: JSON indented, anything else as one line with non-text escaped."""
    letter = DeadLetter.read(raw)
    if is_excerpt(letter):
        held = msgspec.json.decode(letter.item)
        head = base64.b64decode(held["base64"])
        told = f"the first {len(head):,} of {held['bytes']:,} bytes, SHA-256 of all {held['sha256']}:"
        return safe_line(f"{told} {head.decode(errors='backslashreplace')}")
    if letter.reason in NOT_EMBEDDABLE:  # its line breaks are its own, not layout
        return safe_line(letter.item_bytes.decode(errors="backslashreplace"))
    return msgspec.json.format(bytes(letter.item), indent=2).decode()


def retry_letter(store: Store, raw: bytes) -> Outcome:
    """Send a letter's event into the next run; without an event, put its item back on the audit list."""
    handle = handle_of(raw)
    priorities = {one.name: one.priority for one in store.settings.event_types}
    try:
        if store.letters.retry(raw, priorities):
            return Outcome(handle, as_item=DeadLetter.read(raw).event_id is None)
    except TruncatedLetterError as error:
        why = f"{error}; push the item again, then remove the letter with `rlm failed drop {handle}`"
    except BadItemError as error:
        why = f"{error}; correct the configuration, or drop it with `rlm failed drop {handle}`"
    else:
        if store.letters.find(handle) is None:
            return Outcome(handle, "it is no longer there; somebody else has retried or dropped it")
        why = f"its event is under way again; `rlm failed drop {handle}` removes the old letter alone"
    return Outcome(handle, why, kept=True)


def retry_unless_hopeless(store: Store, raw: bytes) -> Outcome:
    """Retry a letter, but leave one whose item would only become a dead letter again."""
    letter = DeadLetter.read(raw)
    why = letter.hopeless(store.settings.queue.max_item_bytes)
    return Outcome(letter.id, why, kept=True, left=True) if why else retry_letter(store, raw)


def drop_letter(store: Store, raw: bytes) -> Outcome:
    """Remove a letter for good and forget its event."""
    handle = handle_of(raw)
    return Outcome(handle, "" if store.letters.drop(raw) else "it is no longer there; somebody else has removed it")


def deal_with_oldest(
    store: Store, most: int, deal: Callable[[Store, bytes], Outcome], fits: Callable[[bytes], bool]
) -> Iterator[Outcome]:
    """Process the `most` oldest letters that match, oldest first, in constant memory; yield each outcome.

    Letters written meanwhile are newer, so they stay.
    """
    kept = 0
    while most > 0 and (page := store.letters.oldest(kept, _PAGE)):
        for raw in page:
            if not is_letter(raw) or not fits(raw):
                kept += 1
            elif most > 0:
                most -= 1
                outcome = deal(store, raw)
                kept += outcome.kept
                yield outcome
