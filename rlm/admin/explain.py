"""What `rlm explain` shows: where an event is, why it waits, its attempts.

It searches the ledger, then the items that wait, then the dead letters.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from rlm.admin.attendance import ticks_every_seconds
from rlm.admin.conditions import conditions, is_grave
from rlm.admin.endpoints import standing
from rlm.admin.letters import DeadLetter
from rlm.admin.queue import MOST_LOOKED, events_in, items_of
from rlm.core.call import CallEnd, trail_of
from rlm.core.clock import isoformat
from rlm.core.documents import Attempt, Condition, EndpointView, EventView, ItemView
from rlm.core.errors import NoSuchRunError
from rlm.core.item import Place, event_id, type_of
from rlm.core.run import Run, State
from rlm.core.text import cut, ordinal, span
from rlm.ledger.connect import text
from rlm.ledger.events import LATER
from rlm.ledger.scripts import Command, batch
from rlm.ledger.store import Store
from rlm.ledger.values import MICROSECONDS, moment, moment_of_us, reading, whole

#: Places in which an event needs a slot.
_WAITING = frozenset({Place.PENDING, Place.BACKING_OFF, Place.SPENT, Place.LEFTOVER})


class Whereabouts(msgspec.Struct, frozen=True):
    """The state of one event in the ledger. Times are seconds since 1970 by the clock of Redis.

    `due` is when its back-off or lease ends, `calling_since` the start of its call under way to `endpoint`. `position`
    counts from 1 among `of` ready events of its type. `calls` were made for it, the newest of which are `attempts`.
    """

    event_id: str
    now: float
    place: Place
    due: float = 0.0
    position: int | None = None
    of: int | None = None
    worker: str = ""
    endpoint: str = ""
    calling_since: float | None = None
    attempt: int = 0
    runs: int = 0
    calls: int = 0
    taken_at: float | None = None
    attempts: tuple[Attempt, ...] = ()


def event_state(store: Store, event_id: str) -> Whereabouts | None:
    """Read the state of an event at one instant; None if the ledger does not know it."""
    keys, key = store.keys, store.keys.event(event_id)
    ready = keys.ready(type_of(event_id))
    read: list[Command] = [("HGETALL", key), ("TIME",), ("EXISTS", keys.run)]
    read += [("ZRANK", ready, event_id), ("ZCARD", ready)]
    read += [("ZSCORE", keys.due, member) for member in (event_id, f"{LATER}{event_id}")]
    fields, (seconds, microseconds), is_open, rank, pending, lease, due = batch(store.client, read, transaction=True)
    if not fields:
        return None
    ends, state = 0.0, text(fields.get(b"state", b""))
    if rank is not None:
        place = Place.PENDING if is_open else Place.LEFTOVER
    elif lease is not None:
        place, ends = Place.IN_FLIGHT, lease
    elif due is not None:
        place, ends = (Place.SPENT, 0.0) if due == math.inf else (Place.BACKING_OFF, due)
    else:
        place = Place(state) if state in {Place.COMPLETED, Place.FAILED} else Place.NOWHERE
    is_calling = place is Place.IN_FLIGHT
    return Whereabouts(
        event_id,
        seconds + microseconds / MICROSECONDS,
        place,
        due=ends / MICROSECONDS,
        position=None if rank is None else rank + 1,
        of=None if rank is None else pending,
        worker=text(fields.get(b"owner", b"")).partition(" ")[0],
        endpoint=text(fields.get(b"endpoint", b"")) if is_calling else "",
        calling_since=reading(moment_of_us, fields.get(b"stamp"), key, None) if is_calling else None,
        attempt=reading(whole, fields.get(b"attempt"), key, 0),
        runs=reading(whole, fields.get(b"runs"), key, 0),
        calls=reading(whole, fields.get(b"trail"), key, 0),
        taken_at=reading(moment, fields.get(b"taken_at"), key, None),
        attempts=tuple(trail_of(fields)),
    )


def explanation(store: Store, asked: str) -> EventView | ItemView:
    """Explain an event, or all events of an item; raise a NoSuchRunError if it is unknown."""
    views = explain(store, asked)
    alone = len(views) == 1 and views[0].event_id == asked
    return views[0] if alone else ItemView(item_id=asked, events=tuple(views))


def explain(store: Store, asked: str) -> list[EventView]:
    """Explain an event, or all events of an item, in the order of the types.

    Raises:
        NoSuchRunError: it is not in the ledger, the waiting items or the dead letters, as far as they are read.
    """
    asked = asked.encode("utf-8", "backslashreplace").decode()  # an id is text
    views: dict[str, EventView] = {}
    for search in (_in_ledger, _queued, _in_ledger):  # a drain may have moved it meanwhile
        views = views or {view.event_id: view for view in search(store, asked)}
    if not views or any(view.state == Place.FAILED for view in views.values()):
        for event, letter in _letters(store, asked).items():
            view = views.setdefault(event, EventView(event_id=event, type=letter.type, state=Place.FAILED, sentence=""))
            if view.state == Place.FAILED:
                views[event] = _with_letter(view, letter)
    if not views:
        raise NoSuchRunError(
            f"No event or item {cut(asked, 200)!r} is known: it is not in the ledger, not among the "
            f"{MOST_LOOKED:,} oldest items on the audit list, and no dead letter. Settled events are forgotten after "
            f"{store.settings.queue.dedupe_seconds:g} s (queue.dedupe_seconds)."
        )
    return list(views.values())


def _in_ledger(store: Store, asked: str) -> Iterator[EventView]:
    for event in (asked, *(event_id(asked, name) for name in store.known_types)):
        if state := event_state(store, event):
            yield _view(store, state)


def _queued(store: Store, asked: str) -> Iterator[EventView]:
    """Yield the events of the oldest matching item in staging or on the audit list."""
    for place, raw in enumerate(islice(items_of(store), MOST_LOOKED), start=1):
        if events := [event for event in events_in(store, raw) if asked in {event.event_id, event.item_id}]:
            where = f"is on the audit list, {ordinal(place)} in the order of the items, not taken yet"
            hinder = _hindering(store)
            for event in events:
                name = event.event_id
                told = f"{name} {where}; {_next_run(store, name, hinder)}"
                yield EventView(event_id=name, type=event.type, state=Place.QUEUED, sentence=told, conditions=hinder)
            return


def _letters(store: Store, asked: str) -> dict[str, DeadLetter]:
    """Return the newest letter of each event; a letter without an event counts under the id of its item."""
    letters: dict[str, DeadLetter] = {}
    for letter in map(DeadLetter.read, store.letters.all()):
        item_id = str(letter.item_fields.get("id") or "")
        ids = [letter.event_id] if letter.event_id else [event_id(item_id, name) for name in letter.event_types]
        for event in ids or [item_id]:
            if event == asked or event.rpartition(":")[0] == asked:
                letters.setdefault(event, letter)
    return letters


def _with_letter(view: EventView, letter: DeadLetter) -> EventView:
    sentence = f"{view.event_id} is a dead letter since {letter.failed_at}: {letter.reason}, {letter.detail}"
    return replace(view, sentence=" ".join(sentence.split()), letter=letter.id)


def _view(store: Store, event: Whereabouts) -> EventView:
    run, kind = store.runs.current(), type_of(event.event_id)
    endpoints, hinder = tuple[EndpointView, ...](), tuple[Condition, ...]()
    if event.place in _WAITING:
        endpoints = tuple(each for each in standing(store).values() if kind in each.types and each.kind == "endpoint")
        hinder = _hindering(store, {kind, *(name for each in endpoints for name in (each.name, each.budget))})
    return EventView(
        event_id=event.event_id,
        type=kind,
        state=event.place,
        sentence=f"{event.event_id} {_sentence(store, event, _Waits(run, endpoints, hinder))}",
        taken_at=None if event.taken_at is None else isoformat(event.taken_at),
        runs_spent=event.runs,
        calls=event.calls,
        attempts=event.attempts,
        endpoints=endpoints,
        conditions=hinder,
    )


class _Waits(NamedTuple):
    """What a waiting event waits with: the open run, the endpoints of its type, the conditions that may hinder it."""

    run: Run | None
    endpoints: Sequence[EndpointView]
    hinder: tuple[Condition, ...]


def _hindering(store: Store, subjects: Collection[str | None] = ()) -> tuple[Condition, ...]:
    """Return the conditions by which nothing is sent, and those of these subjects."""
    return tuple(each for each in conditions(store) if is_grave(each) or each.subject in subjects)


def _sentence(store: Store, event: Whereabouts, waits: _Waits) -> str:
    attempt, last = ordinal(event.attempt + 1), event.attempts[-1] if event.attempts else None
    order = f", {ordinal(event.position)} of {event.of:,} of its type" if event.position and event.of else ""
    sentence = "is in the ledger but in none of its places, which is a fault of RLM; see `rlm doctor`"
    match event.place:
        case Place.PENDING:
            sentence = f"is pending{order}: {_why(store, event, waits)}"
        case Place.LEFTOVER:
            sentence = f"is left over{order}: {_next_run(store, event.event_id, waits.hinder)}"
        case Place.IN_FLIGHT:
            for_seconds = f" for {span(max(0.0, event.now - event.calling_since))}" if event.calling_since else ""
            sentence = f"is in flight at {event.endpoint}{for_seconds}, its {attempt} attempt, in worker {event.worker}"
        case Place.BACKING_OFF:
            sentence = f"waits {span(max(0.0, event.due - event.now))} before its {attempt} attempt (back-off)"
        case Place.SPENT:
            runs = f"the {ordinal(max(1, event.runs))} of at most {store.settings.retry.max_runs:,} such runs"
            sentence = f"has spent its attempts of this run, {runs}: it will be left over"
        case Place.COMPLETED:
            at = f" at {last.at} by {last.endpoint}" if last and last.answer is CallEnd.COMPLETED else ""
            sentence = f"was completed{at} at its {ordinal(event.attempt)} attempt"
        case Place.FAILED:
            sentence = "became a dead letter, which is no longer on the list: it was archived, or removed"
    return sentence


def _why(store: Store, event: Whereabouts, waits: _Waits) -> str:
    """Return what a pending event waits for."""
    run, endpoints = waits.run, waits.endpoints
    if run is None or any(map(is_grave, waits.hinder)) or type_of(event.event_id) not in store.settings.types:
        return _next_run(store, event.event_id, waits.hinder)
    if run.cancelled or run.state is not State.RUNNING:
        return f"run {run.id} is {'cancelled' if run.cancelled else run.state}"
    if free := sum(each.free for each in endpoints):
        return f"{free:,} slots of its endpoints are free, and {(event.position or 1) - 1:,} of its type go first"
    healths = ", ".join(f"{number} {health}" for health, number in Counter(each.health for each in endpoints).items())
    waiting = [(each.next_slot_seconds, each.name) for each in endpoints if each.next_slot_seconds is not None]
    opens = "none opens before it is resumed"
    if waiting:
        opens = f"{min(waiting)[1]} has a slot in {span(min(waiting)[0])}"
    return f"no endpoint lets a call through ({healths}); {opens}"


def _next_run(store: Store, event_id: str, hinder: Iterable[Condition]) -> str:
    """Return when an event may be sent that is not sent in the open run, or why not."""
    if type_of(event_id) not in store.settings.types:
        return "its type is not configured, so it becomes a dead letter when the next run starts"
    if grave := next(filter(is_grave, hinder), None):
        return grave.sentence
    every_seconds = ticks_every_seconds(store)
    starts = (store.now() // every_seconds + 1) * every_seconds
    return f"the next run starts at about {isoformat(starts)[11:19]} UTC"
