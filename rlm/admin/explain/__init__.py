"""What `rlm explain` shows: where an event is, why it waited, its attempts; the events of a wallet; the search.

It searches the ledger, then the waiting items, then the dead letters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain, islice
from typing import Any

from msgspec.structs import replace

from rlm.admin.explain.look import TypeStatus, letters_with, look_around, search_items, search_letters
from rlm.admin.explain.words import sentence
from rlm.admin.report import runs_beginning
from rlm.core.clock import isoformat
from rlm.core.errors import NoSuchRunError
from rlm.core.item import event_id, type_of
from rlm.core.text import cut
from rlm.core.trail import Place, TrailCall
from rlm.ledger import Store
from rlm.ledger.archive import Archive
from rlm.ledger.reading import Whereabouts, event_state, field_of_each, held_events
from rlm.ledger.reading.backlog import MOST_ITEMS
from rlm.ledger.reading.waiting import EventFilter, waiting_page

#: Places in which an event needs a slot.
_WAITING = frozenset({Place.PENDING, Place.BACKING_OFF, Place.SPENT, Place.LEFTOVER})

#: Fields of a dead letter to show.
_OF_LETTER = ("id", "reason", "detail", "failed_at")

#: Most characters of an unknown id to repeat in a message.
_ECHO_WIDTH = 200

#: Most repetitions of a search while a drain moves items.
_ROUNDS = 20
#: Most events of a wallet to list, and events in flight to read of each type.
MOST_FOUND = 100
_MOST_UNDER_WAY = 1000
#: Most runs to name, the newest whose id has the prefix.
MOST_RUNS = 20
#: Fewest characters that can be the prefix of a run's id: a date.
_SHORTEST = len("20261125")


def explanation(store: Store, asked: str) -> dict[str, Any]:
    """Explain an event or all events of an item, or list those of a wallet; raise a NoSuchRunError if unknown."""
    try:
        found = explain(store, asked)
    except NoSuchRunError:
        of_wallet = events_of_wallet(store, asked)
        if not asked or not of_wallet["found"]:
            raise
        return of_wallet
    alone = len(found) == 1 and found[0]["event_id"] == asked
    return found[0] if alone else {"item_id": asked, "events": found}


def search(store: Store, asked: str) -> dict[str, Any]:
    """Return what is found for `asked`, in this order; the search stops at the first kind with a match.

    `runs` are ids with that prefix, `events` the documents of `rlm explain`, `letter` the id of a dead letter, `wallet`
    what `rlm explain` prints for a wallet name. `why` says why nothing was found.
    """
    nothing: dict[str, Any] = {"asked": asked, "runs": [], "events": [], "letter": None, "wallet": None, "why": ""}
    if not asked:
        return {**nothing, "why": "Nothing was asked for."}
    if len(asked) >= _SHORTEST and (runs := runs_beginning(store, asked)):
        return {**nothing, "runs": runs[:MOST_RUNS]}
    try:
        return {**nothing, "events": explain(store, asked)}
    except NoSuchRunError as error:
        why = str(error)
    if any(one.id == asked for one in letters_with(store, asked)):
        return {**nothing, "letter": asked}
    wallet = events_of_wallet(store, asked)
    return {**nothing, "wallet": wallet} if wallet["found"] else {**nothing, "why": why}


def explain(store: Store, asked: str) -> list[dict[str, Any]]:
    """Explain an event, or all events of an item: one document each, in the order of the types.

    Raises:
        NoSuchRunError: it is not in the ledger, the waiting items or the dead letters, as far as they are read.
    """
    asked = asked.encode("utf-8", "backslashreplace").decode()  # an id is text
    if not asked:  # it would find the letters without an id
        raise NoSuchRunError(_unknown(store, asked, 0))
    found, unread = _look(store, asked)
    if not any(event.event_id == asked and event.place is not Place.FAILED for event in found):
        found = _with_letters(store, asked, found)
    if not found:
        raise NoSuchRunError(_unknown(store, asked, unread))
    statuses = {name: look_around(store, name) for name in {type_of(event.event_id) for event in found}}
    return [_document(event, statuses[type_of(event.event_id)]) for event in found]


def _look(store: Store, asked: str) -> tuple[list[Whereabouts], int]:
    """Search the ledger, then the waiting items, then the ledger again, because a drain moves items there.

    Also returns the number of items that were not read.
    """
    for _ in range(_ROUNDS):
        if found := list(_in_ledger(store, asked)):
            return found, 0
        searched = search_items(store, asked)
        if searched.queued or not searched.moving:
            break
    return searched.queued or list(_in_ledger(store, asked)), searched.unread


def _in_ledger(store: Store, asked: str) -> Iterator[Whereabouts]:
    for one in (asked, *(event_id(asked, name) for name in store.known_types)):
        if event := event_state(store, one):
            yield event


def _with_letters(store: Store, asked: str, found: list[Whereabouts]) -> list[Whereabouts]:
    """Add its letter to each failed event, and the dead letters of events never taken or already forgotten."""
    letters, now = search_letters(store, asked), store.now()
    known = {event.event_id: event for event in found}
    for one, letter in letters.items():
        event = known.setdefault(one, Whereabouts(one, now, Place.FAILED))
        if event.place is Place.FAILED:
            known[one] = replace(event, letter=letter)
    return list(known.values())


def _unknown(store: Store, asked: str, unread: int) -> str:
    more = f" {unread:,} items behind the {MOST_ITEMS:,} oldest were not looked at." if unread else ""
    return (
        f"No event or item {cut(asked, _ECHO_WIDTH)!r} is known: it is not in the ledger, not on the audit list, and "
        f"no dead letter.{more} Settled events are forgotten after {store.settings.queue.dedupe_seconds:g} s "
        "(queue.dedupe_seconds); until then they are found by the id of the event or its item, not by its "
        f"wallet.{Archive(store.settings.archive_dir).hint()}"
    )


def _document(event: Whereabouts, status: TypeStatus) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "type": type_of(event.event_id) if ":" in event.event_id else None,  # a letter that is a whole item
        "state": event.place,
        "sentence": sentence(event, status),
        "position": event.position,
        "of": event.of,
        "run_id": status.run.id if status.run else None,
        "taken_at": None if event.taken_at is None else isoformat(event.taken_at),
        "taken_in": event.taken_in,
        "worker": event.worker or None,
        "claims": event.claims,
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


def events_of_wallet(store: Store, wallet: str) -> dict[str, Any]:
    """Return the first events of a wallet, as `rlm explain` prints them; `more` says whether there may be others.

    First those in flight, then the waiting ones, as far as they are read, then the newest dead letters. Completed
    events cannot be found by their wallet.
    """
    wallet = wallet.encode("utf-8", "backslashreplace").decode()  # a name is text
    page = waiting_page(store, EventFilter(wallet=wallet), MOST_FOUND)
    waiting = (
        _entry(one.event_id, one.state, None if one.since is None else isoformat(one.since)) for one in page.events
    )
    parts = chain(_under_way(store, wallet), waiting, _letters_of(store, wallet))
    found = list(islice(parts, MOST_FOUND + 1))
    more = len(found) > MOST_FOUND or page.after is not None
    return {"wallet_name": wallet, "found": found[:MOST_FOUND], "more": more}


def _entry(event_id: str, state: Place, since: str | None = None) -> dict[str, Any]:
    return {"event_id": event_id, "type": type_of(event_id), "state": state, "since": since, "letter": None}


def _under_way(store: Store, wallet: str) -> Iterator[dict[str, Any]]:
    held = held_events(store)
    for name in store.known_types:
        ids = [one.event_id for one in held.get(name, ()) if one.place is Place.IN_FLIGHT][:_MOST_UNDER_WAY]
        for one, owner in zip(ids, field_of_each(store, ids, "wallet"), strict=True):
            if owner == wallet:
                yield _entry(one, Place.IN_FLIGHT)


def _letters_of(store: Store, wallet: str) -> Iterator[dict[str, Any]]:
    """Yield the newest letters of a wallet. A letter without an event has the id of its item instead, if any."""
    for letter in letters_with(store, wallet):
        fields = letter.item_fields
        if fields.get("wallet_name") == wallet:
            named = fields.get("id") if letter.event_id is None else letter.event_id
            of = {"event_id": named if isinstance(named, str) else None, "type": letter.type, "state": Place.FAILED}
            yield {**of, "since": str(letter.failed_at), "letter": letter.id}
