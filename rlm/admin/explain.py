"""What `rlm explain` shows: where an event is, why it waits, its attempts.

It searches the ledger, then the items that wait, then the dead letters.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache, partial
from itertools import islice

import msgspec
from msgspec.structs import replace

from rlm.admin.conditions import Scene, conditions, is_grave, look, ticks_every_seconds
from rlm.admin.errors import NoSuchRunError
from rlm.admin.letters import DeadLetter, letters_of
from rlm.admin.queue import MOST_LOOKED, Place, events_in, items_of
from rlm.admin.text import span
from rlm.core.call import CallEnd
from rlm.core.clock import isoformat
from rlm.core.documents import Attempt, Condition, EndpointView, EventView, ItemView
from rlm.core.item import event_id, type_of
from rlm.core.run import Run, State
from rlm.core.text import cut
from rlm.ledger.connect import text
from rlm.ledger.events import LATER
from rlm.ledger.leases import present
from rlm.ledger.scripts import Command
from rlm.ledger.store import Store
from rlm.ledger.values import MICROSECONDS, moment, moment_of_us, reading, whole


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
    # Of an item, some events may be in the ledger while letters say what became of the others.
    if views.keys() != {asked} or views[asked].state == Place.FAILED:
        for event, letter in _letters(store, asked).items():
            view = views.setdefault(event, EventView(event_id=event, type=letter.type, state=Place.FAILED, sentence=""))
            if view.state == Place.FAILED:
                sentence = f"{event} is a dead letter since {letter.failed_at}: {letter.reason}, {letter.detail}"
                views[event] = replace(view, sentence=" ".join(sentence.split()), letter=letter.id)
    if not views:
        raise NoSuchRunError(
            f"No event or item {cut(asked, 200)!r} is known: it is not in the ledger, not among the "
            f"{MOST_LOOKED:,} oldest items on the audit list, and no dead letter. Settled events are forgotten after "
            f"{store.settings.queue.dedupe_seconds:g} s (queue.dedupe_seconds)."
        )
    return list(views.values())


def _in_ledger(store: Store, asked: str) -> Iterator[EventView]:
    seen = cache(partial(look, store))
    views = (_view(store, event, seen) for event in (asked, *(event_id(asked, name) for name in store.ledger.types())))
    return filter(None, views)


def _queued(store: Store, asked: str) -> Iterator[EventView]:
    """Yield the events of the oldest matching item in staging or on the audit list."""
    for place, raw in enumerate(islice(items_of(store), MOST_LOOKED), start=1):
        if events := [event for event in events_in(raw) if asked in {event.event_id, event.item_id}]:
            where = f"is on the audit list, number {place:,} in the order of the items, not taken yet"
            hinder = tuple(filter(is_grave, conditions(store)))
            for event in events:
                name = event.event_id
                why = f"{name} {where}; {_next_run(store, event.type, hinder)}"
                yield EventView(event_id=name, type=event.type, state=Place.QUEUED, sentence=why, conditions=hinder)
            return


def _letters(store: Store, asked: str) -> dict[str, DeadLetter]:
    """Return the newest letter of each event; a letter without an event counts under the id of its item."""
    letters: dict[str, DeadLetter] = {}
    for letter in map(DeadLetter.read, letters_of(store)):
        about, types = letter.subject, [] if letter.event_id else letter.event_types
        for event in [event_id(about, name) for name in types] or [about]:
            if event == asked or event.rpartition(":")[0] == asked:
                letters.setdefault(event, letter)
    return letters


def _view(store: Store, event: str, seen: Callable[[], Scene]) -> EventView | None:
    """Return where an event is, by the ledger, and what it waits for, by what is `seen`; None if that has it not."""
    keys, key, kind = store.keys, store.keys.event(event), type_of(event)
    read: list[Command] = [("HGETALL", key), ("TIME",), ("EXISTS", keys.run)]
    read += [("ZRANK", keys.ready(kind), event), ("ZCARD", keys.ready(kind))]
    read += [("ZSCORE", keys.due, member) for member in (event, f"{LATER}{event}")]
    fields, now_us, is_open, rank, ready, lease, due = store.batch(read, transaction=True)
    if not fields:
        return None
    now = now_us / MICROSECONDS
    attempt, runs = reading(_attempts, fields.get(b"tried"), key, (0, 0))
    attempts, taken_at = tuple(trail_of(fields)), reading(moment, fields.get(b"taken_at"), key, None)
    if rank is not None:
        place, where = Place.PENDING if is_open else Place.LEFTOVER, f"number {rank + 1:,} of {ready:,} of its type"
        sentence = f"{'is pending' if is_open else 'waits for the next run'}, {where}"
    elif lease is not None:
        worker, endpoint, since = reading(_owner, fields.get(b"owner"), key, ("", "", now))
        for_seconds = f"in flight at {endpoint} for {span(max(0.0, now - since))}"
        place, sentence = Place.IN_FLIGHT, f"is {for_seconds}, attempt {attempt + 1}, in worker {worker}"
    elif due == math.inf:
        spent = f"{max(1, runs):,} of at most {store.settings.retry.max_runs:,} such runs"
        place, sentence = Place.SPENT, f"has spent its attempts of this run, {spent}: it will be left over"
    elif due is not None:
        back_off = span(max(0.0, due / MICROSECONDS - now))
        place, sentence = Place.BACKING_OFF, f"waits {back_off} before attempt {attempt + 1} (back-off)"
    elif attempts and (last := attempts[-1]).answer == CallEnd.COMPLETED:
        place, sentence = Place.COMPLETED, f"was completed at {last.at} by {last.endpoint} at attempt {attempt}"
    elif b"letter" in fields:
        place, sentence = Place.FAILED, "became a dead letter, which was archived, or removed from the list"
    else:
        place, sentence = Place.NOWHERE, "is in none of the ledger's places, which is a fault of RLM; see `rlm doctor`"
    view = EventView(
        event_id=event,
        type=kind,
        state=place,
        sentence=f"{event} {sentence}",
        taken_at=None if taken_at is None else isoformat(taken_at),
        runs_spent=runs,
        calls=reading(whole, fields.get(b"trail"), key, 0),
        attempts=attempts,
    )
    is_waiting = rank is not None or (lease is None and due is not None)
    return _waiting(store, view, rank, seen()) if is_waiting else view


def _attempts(tried: bytes) -> tuple[int, int]:
    """Return an event's attempts in all runs, and in how many runs it spent all of them."""
    attempt, runs = tried.split(b" ", 2)[:2]
    return whole(attempt), whole(runs)


def _owner(owner: bytes) -> tuple[str, str, float]:
    """Return in which worker an event is, at which endpoint, and since when."""
    worker, _, stamp, endpoint = owner.split(b" ", 3)
    return text(worker), text(endpoint), moment_of_us(stamp)


def trail_of(fields: Mapping[bytes, bytes]) -> list[Attempt]:
    """Return the trail in an event's hash, oldest call first: of the `trail` calls so far the newest 50.

    The script that settles an event writes each over the oldest, in a field `t` and a number, with its microseconds.
    """
    written = int(fields.get(b"trail", 0))
    places = (b"t%d" % (number % 50) for number in range(max(1, written - 49), written + 1))
    calls = (fields[place].split(b" ", 1) for place in places if place in fields)
    return [Attempt(isoformat(int(us) / MICROSECONDS), *msgspec.json.decode(call)) for us, call in calls]


def _waiting(store: Store, view: EventView, rank: int | None, scene: Scene) -> EventView:
    """Return an event with what it waits for; `rank` of its type go first if it is ready."""
    endpoints = tuple(each for each in scene.standings.values() if view.type in each.types and each.kind == "endpoint")
    subjects = {view.type, "redis", *(name for each in endpoints for name in (each.name, each.budget))}
    hinder = tuple(each for each in conditions(store, scene) if is_grave(each) or each.subject in subjects)
    view = replace(view, endpoints=endpoints, conditions=hinder)
    if rank is None:
        return view
    why = _next_run(store, view.type, hinder) if view.state == Place.LEFTOVER else _why(store, view, rank, scene.run)
    if view.state == Place.LEFTOVER and endpoints and not any(each.free for each in endpoints):
        why = f"{why}; now {_shut(endpoints)}"
    return replace(view, sentence=f"{view.sentence}: {why}")


def _why(store: Store, view: EventView, first: int, run: Run | None) -> str:
    """Return what a pending event of the open `run` waits for; `first` of its type go first."""
    if run is None or any(map(is_grave, view.conditions)) or view.type not in store.settings.types:
        return _next_run(store, view.type, view.conditions)
    if run.cancelled or run.state is not State.RUNNING:
        return f"run {run.id} is {'cancelled' if run.cancelled else run.state}"
    if free := sum(each.free for each in view.endpoints):
        is_busy = run.waits is not None and run.waits.last.get(view.type) == "lanes"
        lanes = ", but all lanes are busy (`rlm status` shows with what)" if is_busy else ""
        return f"{free:,} slots of its endpoints are free{lanes}, and {first:,} of its type go first"
    return _shut(view.endpoints)


def _shut(endpoints: Collection[EndpointView]) -> str:
    """Return why and until when none of a type's endpoints takes a call."""
    healths = ", ".join(f"{number} {health}" for health, number in Counter(each.health for each in endpoints).items())
    opens = "none opens before it is resumed"
    if waiting := [(each.next_slot_seconds, each.name) for each in endpoints if each.next_slot_seconds is not None]:
        seconds, name = min(waiting)
        opens = f"{name} has a slot in {span(seconds)}"
    return f"no endpoint lets a call through ({healths}); {opens}"


def _next_run(store: Store, kind: str | None, hinder: Iterable[Condition]) -> str:
    """Return when an event of a type may be sent that is not sent in the open run, or why not."""
    if kind not in store.settings.types:
        return "its type is not configured, so it becomes a dead letter when the next run starts"
    if grave := next(filter(is_grave, hinder), None):
        return grave.sentence
    there = present(store)
    every_seconds = ticks_every_seconds(store, there)
    starts = (there.now_us / MICROSECONDS // every_seconds + 1) * every_seconds
    return f"the next run starts at about {isoformat(starts)[11:19]} UTC"
