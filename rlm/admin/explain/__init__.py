"""What `rlm explain` shows: where an event is, why it waited, and each attempt; and the events of a wallet.

It searches the ledger, then the items that wait, then the dead letters.
"""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from rlm.admin.explain.look import Whereabouts, look_around, look_at_event
from rlm.admin.explain.words import sentence
from rlm.admin.letters import DeadLetter
from rlm.admin.queue import flaws_of
from rlm.core.clock import isoformat
from rlm.core.errors import NoSuchRunError
from rlm.core.item import BadItemError, decode_item, event_id, type_of
from rlm.core.text import cut
from rlm.core.trail import Place
from rlm.ledger.archive import Archive, ArchiveKind
from rlm.ledger.reading import field_of_each, scores
from rlm.ledger.reading.backlog import MOST_ITEMS, item_pages
from rlm.ledger.reading.waiting import EventFilter, waiting_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.admin.explain.look import TypeStatus
    from rlm.core.trail import TrailCall
    from rlm.ledger import Store

#: Places in which an event needs a slot.
_WAITING = frozenset({Place.PENDING, Place.BACKING_OFF, Place.SPENT, Place.LEFTOVER})

#: What is shown of a dead letter.
_OF_LETTER = ("id", "reason", "detail", "failed_at")

#: Characters of an unknown id that a message repeats.
_ECHO_WIDTH = 200

#: How often to search while a drain moves items from one place to the next.
_ROUNDS = 20
#: The id of an item in what is no JSON: a text or a number.
_ID = re.compile(rb'"id"\s*:\s*("(?:[^"\\]|\\.)*+"|-?\d[\d.]*+)')


#: Events of a wallet that are listed, and events under way that are read of each type and state.
MOST_FOUND = 100
_MOST_UNDER_WAY = 1000


def explanation(store: Store, asked: str) -> dict[str, Any]:
    """Explain an event, all events of an item, or list those of a wallet, as `rlm explain` prints it.

    Raises:
        NoSuchRunError: none of these is known.
    """
    try:
        found = explain(store, asked)
    except NoSuchRunError:
        of_wallet = events_of_wallet(store, asked)
        if not asked or not of_wallet["found"]:
            raise
        return of_wallet
    alone = len(found) == 1 and found[0]["event_id"] == asked
    return found[0] if alone else {"item_id": asked, "events": found}


def explain(store: Store, asked: str) -> list[dict[str, Any]]:
    """Explain an event, or all events of an item; one document each, in the order of the types.

    Raises:
        NoSuchRunError: neither the ledger nor what waits nor the dead letters know it, as far as they are read.
    """
    asked = asked.encode("utf-8", "backslashreplace").decode()  # an id is text
    if not asked:  # it would find the letters that have none
        raise NoSuchRunError(_unknown(store, asked, 0))
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
    for _ in range(_ROUNDS):
        if found := list(_in_ledger(store, asked)):
            return found, 0
        searched = search_items(store, asked)
        if searched.queued or not searched.moving:
            break
    return searched.queued or list(_in_ledger(store, asked)), searched.unread


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
    return (
        f"No event or item {cut(asked, _ECHO_WIDTH)!r} is known: it is not in the ledger, not on the audit list, "
        "and no dead letter."
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


class Searched(NamedTuple):
    """The events that wait in an item, and the number of items that were not read.

    `moving`: a drain moved items meanwhile, so that some were not read anywhere.
    """

    queued: list[Whereabouts]
    unread: int = 0
    moving: bool = False


def search_items(store: Store, asked: str) -> Searched:
    """Look for an event or an item among the `MOST_ITEMS` oldest items that wait; the oldest such item counts."""
    staged, listed = store.intake.lengths()
    read, number = 0, staged + listed
    for page in item_pages(store):
        for raw in page:
            read += 1
            if faults := dict(_events(store, raw, asked)):
                now = store.now_us() / 1_000_000
                at: dict[str, Any] = {"position": read, "of": max(read, number), "staged": read <= staged}
                return Searched(
                    [Whereabouts(one, now, Place.QUEUED, fault=fault, **at) for one, fault in faults.items()]
                )
    return Searched([], max(0, number - read) if read >= MOST_ITEMS else 0, moving=read < min(number, MOST_ITEMS))


def _events(store: Store, raw: bytes, asked: str) -> Iterator[tuple[str, str]]:
    """Yield the events of an item that were asked for, each with the reason if it will be a dead letter."""
    item_id, _, name = asked.rpartition(":")
    if b"\\" not in raw and not any(one and one.encode() in raw for one in (asked, item_id)):
        return  # true of nearly all, and decoding would cost ten times as much
    try:
        item = decode_item(raw, store.settings.queue.max_item_bytes)
    except BadItemError as error:
        if item_id_of(raw) in {asked, item_id or asked}:
            yield asked, f"{error.reason}: {error}"
        return
    for event in item.events:
        if item.id == asked or (item.id == item_id and event.type == name):
            flaws = [] if event.type in store.settings.types else flaws_of(raw, store.settings)
            yield event_id(item.id, event.type), flaws[0].told if flaws else ""


class _Identified(msgspec.Struct):
    id: object = None


def item_id_of(raw: bytes) -> str:
    """Return the id of an invalid item as text; empty if it has none.

    In what is no JSON, or only the beginning of an item, the first id counts.
    """
    try:
        found = msgspec.json.decode(raw, type=_Identified).id
    except (ValueError, RecursionError):
        first = _ID.search(raw)
        try:
            found = msgspec.json.decode(first[1]) if first else None
        except ValueError:
            return ""
    return str(found) if isinstance(found, str | int | float) and not isinstance(found, bool) else ""


def search_letters(store: Store, asked: str) -> dict[str, DeadLetter]:
    """Look for dead letters of an event or an item, the newest of each event, among the `MOST_ITEMS` newest letters.

    A letter without an event goes by the id of its item.
    """
    found: dict[str, DeadLetter] = {}
    for letter in _letters_with(store, msgspec.json.encode(asked)[1:-1], b'"base64"'):
        of = item_id_of(letter.item_bytes) if letter.event_id is None else letter.event_id
        if of == asked or of.rpartition(":")[0] == asked:
            found.setdefault(of, letter)
    return found


def _letters_with(store: Store, *needles: bytes) -> Iterator[DeadLetter]:
    """Yield the newest letters that may hold one of these: nearly all do not, and decoding costs ten times as much."""
    for raw in islice(store.letters.all(), MOST_ITEMS):
        if b"\\" in raw or any(one in raw for one in needles):
            yield DeadLetter.read(raw)


def events_of_wallet(store: Store, wallet: str) -> dict[str, Any]:
    """Return the first events of a wallet, as `rlm explain` prints them; `more` says whether there may be others.

    First those under way, then those that wait, as far as they are read, then the newest dead letters. Completed events
    cannot be found by their wallet.
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
    for name in store.known_types:
        ids = list(scores(store, name, Place.IN_FLIGHT, _MOST_UNDER_WAY))
        for one, owner in zip(ids, field_of_each(store, ids, "wallet"), strict=True):
            if owner == wallet:
                yield _entry(one, Place.IN_FLIGHT)


def _letters_of(store: Store, wallet: str) -> Iterator[dict[str, Any]]:
    """Yield the newest letters of a wallet. Without an event, the id of the item stands in, if it has any."""
    for letter in _letters_with(store, wallet.encode()):
        fields = letter.item_fields
        if fields.get("wallet_name") == wallet:
            named = fields.get("id") if letter.event_id is None else letter.event_id
            of = {"event_id": named if isinstance(named, str) else None, "type": letter.type, "state": Place.FAILED}
            yield {**of, "since": str(letter.failed_at), "letter": letter.id}
