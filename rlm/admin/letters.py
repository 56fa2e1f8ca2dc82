"""What can be done with dead letters: find some, retry or drop them, one after the other, each with its outcome."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from rlm.admin.letterfilter import hopeless
from rlm.core.event import NOT_EMBEDDABLE, BadItemError
from rlm.ledger.letters import Envelope, TruncatedLetterError, is_excerpt, is_letter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rlm.ledger import Store

#: Letters read at a time where all are dealt with.
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one letter; `refused` says why nothing did, empty where it was done; `kept`: it is still there.

    One that is `left` was not tried, for that could not succeed.
    """

    id: str
    refused: str = ""
    kept: bool = False
    left: bool = False


def find_letters(store: Store, ids: Iterable[str]) -> dict[str, bytes]:
    """Return the letters with these ids, by id, as they stand in the list; an unknown one is missing."""
    missing = set(ids)
    found: dict[str, bytes] = {}
    for raw in store.letters.all() if missing else ():
        handle = handle_of(raw)
        if handle in missing:
            missing.remove(handle)
            found[handle] = raw
            if not missing:
                break
    return found


def handle_of(raw: bytes) -> str:
    """Return the id of a letter."""
    return str(msgspec.json.decode(raw)["id"])


def item_text(raw: bytes) -> str:
    """Write the item of a letter for a person: laid out where it is JSON, else as it came, what is no text escaped."""
    letter = msgspec.json.decode(raw, type=Envelope)
    if is_excerpt(letter):
        held = msgspec.json.decode(letter.item)
        head = base64.b64decode(held["base64"])
        told = f"the first {len(head):,} of {held['bytes']:,} bytes, SHA-256 of all {held['sha256']}:"
        return f"{told} {head.decode(errors='backslashreplace')}"
    if is_text(raw):
        return msgspec.json.format(bytes(letter.item), indent=2).decode()
    return base64.b64decode(msgspec.json.decode(letter.item)["base64"]).decode(errors="backslashreplace")


def is_text(raw: bytes) -> bool:
    """Return whether a letter holds its item as JSON, not as base64."""
    letter = msgspec.json.decode(raw, type=Envelope)
    return letter.reason not in NOT_EMBEDDABLE and not is_excerpt(letter)


def retry_letter(store: Store, raw: bytes) -> Outcome:
    """Send a letter's event into the next run; without an event, put its item back on the audit list."""
    handle = handle_of(raw)
    priorities = {one.name: one.priority for one in store.settings.event_types}
    try:
        if store.letters.retry(raw, priorities):
            return Outcome(handle)
    except TruncatedLetterError as error:
        return Outcome(
            handle, f"{error}; push the item again, then remove the letter with `rlm failed drop {handle}`", kept=True
        )
    except BadItemError as error:
        return Outcome(
            handle, f"{error}; correct the configuration, or drop it with `rlm failed drop {handle}`", kept=True
        )
    if store.letters.find(handle) is None:
        return Outcome(handle, "it is no longer there; somebody else has retried or dropped it")
    return Outcome(
        handle, f"its event is under way again; `rlm failed drop {handle}` removes the old letter alone", kept=True
    )


def retry_unless_hopeless(store: Store, raw: bytes) -> Outcome:
    """Retry a letter as `retry_letter` does, but leave one whose item would only become a dead letter again."""
    why = hopeless(raw, store.settings.queue.max_item_bytes)
    return Outcome(handle_of(raw), why, kept=True, left=True) if why else retry_letter(store, raw)


def drop_letter(store: Store, raw: bytes) -> Outcome:
    """Remove a letter for good and forget its event."""
    handle = handle_of(raw)
    return Outcome(handle, "" if store.letters.drop(raw) else "it is no longer there; somebody else has removed it")


def deal_with_oldest(
    store: Store, most: int, deal: Callable[[Store, bytes], Outcome], fits: Callable[[bytes], bool] = lambda _raw: True
) -> Iterator[Outcome]:
    """Deal with the `most` oldest letters that fit, oldest first, in constant memory, yielding each outcome.

    Those that come meanwhile are newer, so they stay.
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
