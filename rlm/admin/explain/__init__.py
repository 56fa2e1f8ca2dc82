"""What `rlm explain` shows: where an event is, why it waited, and each attempt."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from rlm.admin.explain.look import Whereabouts, look_around, look_at_event
from rlm.admin.explain.search import search_items, search_letters
from rlm.admin.explain.words import sentence
from rlm.core.clock import isoformat
from rlm.core.errors import NoSuchRunError
from rlm.core.event import event_id, type_of
from rlm.core.trail import Place
from rlm.ledger.archive import Archive, ArchiveKind
from rlm.ledger.reading.backlog import MOST_ITEMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.admin.explain.look import TypeStatus
    from rlm.core.trail import TrailCall
    from rlm.ledger import Store

__all__ = ["explain"]

#: Places in which an event needs a slot.
_WAITING = frozenset({Place.PENDING, Place.RELEASED, Place.BACKING_OFF, Place.SPENT, Place.LEFTOVER})

#: What is shown of a dead letter.
_OF_LETTER = ("id", "reason", "detail", "failed_at")

#: Characters of an unknown id that a message repeats.
_ECHO_WIDTH = 200

#: How often to search while a drain moves items from one place to the next.
_ROUNDS = 20


def explain(store: Store, asked: str) -> list[dict[str, Any]]:
    """Explain an event, or all events of an item; one document each, in the order of the types.

    Raises:
        NoSuchRunError: neither the ledger nor what waits nor the dead letters know it, as far as they are read.
    """
    asked = asked.encode("utf-8", "backslashreplace").decode()  # an id is text
    found, unread = _look(store, asked)
    if not any(event.event_id == asked and event.place is not Place.FAILED for event in found):
        found = _with_letters(store, asked, found)
    if not found:
        raise NoSuchRunError(_unknown(store, asked, unread))
    statuses = {name: look_around(store, name) for name in {type_of(event.event_id) for event in found}}
    return [_document(event, statuses[type_of(event.event_id)]) for event in found]


def _look(store: Store, asked: str) -> tuple[list[Whereabouts], int]:
    """Look in the ledger, then among the waiting items, then in the ledger again: a drain moves items there.

    Also returns the number of items that were not read.
    """
    unread = 0
    for _ in range(_ROUNDS):
        if found := list(_in_ledger(store, asked)):
            return found, 0
        searched = search_items(store, asked)
        if searched.queued:
            return searched.queued, 0
        unread = searched.unread
        if not searched.moving:
            break
    return list(_in_ledger(store, asked)), unread


def _in_ledger(store: Store, asked: str) -> Iterator[Whereabouts]:
    for one in (asked, *(event_id(asked, name) for name in store.known_types)):
        if event := look_at_event(store, one):
            yield event


def _with_letters(store: Store, asked: str, found: list[Whereabouts]) -> list[Whereabouts]:
    """Add its letter to each failed event, and the dead letters of events never taken or forgotten."""
    letters, now = search_letters(store, asked), store.now_us() / 1_000_000
    known = {event.event_id: event for event in found}
    for one, letter in letters.items():
        event = known.setdefault(one, Whereabouts(one, now, Place.FAILED))
        if event.place is Place.FAILED:
            known[one] = replace(event, letter=letter)
    return list(known.values())


def _unknown(store: Store, asked: str, unread: int) -> str:
    more = f" {unread:,} items behind the {MOST_ITEMS:,} oldest were not looked at." if unread else ""
    named = asked if len(asked) <= _ECHO_WIDTH else f"{asked[: _ECHO_WIDTH - 3]}..."
    return (
        f"No event or item {named!r} is known: it is not in the ledger, not on the audit list, and no dead letter."
        f"{more} What is settled is forgotten after {store.settings.queue.dedupe_seconds:g} s (queue.dedupe_seconds)"
        ", and is found by the id of its event or its item until then, not by its wallet."
        f"{Archive(store.settings.archive_dir).hint(ArchiveKind.FAILED)}"
    )


def _document(event: Whereabouts, status: TypeStatus) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "type": type_of(event.event_id) if ":" in event.event_id else None,  # a letter of an item as a whole
        "state": event.place,
        "sentence": sentence(event, status),
        "position": event.position,
        "of": event.of,
        "run_id": status.run.id if status.run else None,
        "taken_at": None if event.taken_at is None else isoformat(event.taken_at),
        "taken_in": event.taken_in,
        "worker": event.worker or None,
        "releases": event.releases,
        "given_back": event.unsent,
        "deaths": event.deaths,
        "runs_spent": event.runs,
        "calls": event.calls,
        "attempts": [_attempt(one) for one in event.attempts],
        "endpoints": [{**asdict(gate), "state": gate.state} for gate in status.gates if event.place in _WAITING],
        "letter": {name: str(getattr(letter, name)) for name in _OF_LETTER} if (letter := event.letter) else None,
    }


def _attempt(one: TrailCall) -> dict[str, Any]:
    return {
        "attempt": one.number,
        "run_id": one.run_id,
        "endpoint": one.endpoint or None,
        "at": isoformat(one.at),
        "answer": one.answer,
        "text": one.text,
        "seconds": one.seconds,
        "host": one.host or None,
    }
