"""Which dead letters are meant, which are alike, and which no retry can help. Pure."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from rlm.core.event import NOT_EMBEDDABLE, BadItemError, decode_item, type_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

#: The status in the detail of a letter that an answer was the reason for.
_STATUS = re.compile(r"\bHTTP \d{3}\b")
#: What a letter holds in place of an item of which it has the beginning alone.
_EXCERPT = {"base64", "truncated", "bytes", "sha256"}


class _Letter(msgspec.Struct):
    id: str
    reason: str
    event_id: str | None
    item: msgspec.Raw
    detail: object = ""
    failed_at: object = ""
    endpoint: object = None

    @property
    def type(self) -> str | None:
        return type_of(self.event_id) if self.event_id else None

    @property
    def item_bytes(self) -> bytes:
        raw = bytes(self.item)
        return base64.b64decode(msgspec.json.decode(raw)["base64"]) if self.reason in NOT_EMBEDDABLE else raw


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters are meant: those that fit all that is given, of each kind one of several.

    `since` is in seconds since 1970. `text` is looked for in the id of event and item, the name of the wallet and the
    detail, upper and lower case aside.
    """

    types: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()
    endpoints: frozenset[str] = frozenset()
    since: float | None = None
    text: str = ""

    def __bool__(self) -> bool:
        """Return whether anything is asked for; else all letters fit."""
        return self != LetterFilter()

    def fits(self, raw: bytes) -> bool:
        """Return whether a letter is meant."""
        if not self:
            return True
        letter = msgspec.json.decode(raw, type=_Letter)
        return (
            (not self.types or letter.type in self.types)
            and (not self.reasons or letter.reason in self.reasons)
            and (not self.endpoints or letter.endpoint in self.endpoints)
            and (self.since is None or _moment(letter.failed_at) >= self.since)
            and (not self.text or self.text.casefold() in _searched(letter).casefold())
        )


def _moment(failed_at: object) -> float:
    """Return when a letter was written, seconds since 1970; long ago where it does not tell."""
    try:
        return datetime.fromisoformat(str(failed_at)).timestamp()
    except ValueError:
        return 0.0


def _searched(letter: _Letter) -> str:
    """Return what a text is looked for in, a line each."""
    item = letter.item_bytes
    try:
        told = msgspec.json.decode(item)
    except (ValueError, RecursionError):
        told = {}
    named = (
        [told.get("id"), told.get("wallet_name")]
        if isinstance(told, dict) and told
        else [item.decode(errors="replace")]
    )
    return "\n".join(str(one) for one in (letter.id, letter.event_id, letter.detail, *named) if one is not None)


def letter_of_wallet(raw: bytes, wallet: str) -> dict[str, Any] | None:
    """Return which event a letter is of, since when and its id, if its item is of the wallet.

    Without an event that is the id of its item, if it has any.
    """
    if wallet.encode() not in raw and b"\\" not in raw:
        return None  # so it is with nearly all, and to decode them costs ten times as much
    letter = msgspec.json.decode(raw, type=_Letter)
    try:
        told = msgspec.json.decode(letter.item_bytes)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or told.get("wallet_name") != wallet:
        return None
    named = letter.event_id if letter.event_id is not None else told.get("id")
    of = {"event_id": named if isinstance(named, str) else None, "type": letter.type}
    return {**of, "since": str(letter.failed_at), "letter": letter.id}


class Kind(NamedTuple):
    """What alike letters have in common; `answer` is the status that the endpoint answered, where that was it."""

    reason: str
    answer: str | None
    endpoint: str | None
    type: str | None


def grouped(letters: Iterable[bytes]) -> list[dict[str, Any]]:
    """Return how many letters there are of each kind, the most first; of each also its newest and oldest time."""
    found: dict[Kind, dict[str, Any]] = {}
    for raw in letters:  # the newest first
        letter = msgspec.json.decode(raw, type=_Letter)
        status = _STATUS.search(str(letter.detail)) if letter.endpoint else None
        endpoint = str(letter.endpoint) if letter.endpoint else None
        kind = Kind(letter.reason, status[0] if status else None, endpoint, letter.type)
        group = found.setdefault(
            kind, {"letters": 0, **kind._asdict(), "newest": letter.failed_at, "newest_id": letter.id}
        )
        group["letters"] += 1
        group["oldest"] = letter.failed_at
    return sorted(found.values(), key=lambda group: -int(group["letters"]))


def is_of_unknown_type(raw: bytes, types: Collection[str]) -> bool:
    """Return whether the event of a letter is of none of the configured `types`: its retry is refused until it is."""
    type_name = msgspec.json.decode(raw, type=_Letter).type
    return type_name is not None and type_name not in types


def hopeless(raw: bytes, max_item_bytes: int) -> str:
    """Return why a retry of a letter can only make a dead letter again; empty where it may succeed.

    That goes by the item as the letter holds it, of which there may be the beginning alone, and by what is taken now.
    """
    letter = msgspec.json.decode(raw, type=_Letter)
    held = msgspec.json.decode(letter.item)
    if isinstance(held, dict) and set(held) == _EXCERPT:
        return "it holds only the beginning of its item"
    if letter.event_id is not None:
        return ""
    try:
        decode_item(letter.item_bytes, max_item_bytes)
    except BadItemError as error:
        return f"{error.reason}, {error}"
    return ""
