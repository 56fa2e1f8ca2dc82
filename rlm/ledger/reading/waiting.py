"""The waiting events, one by one and page by page, in the ledger, in staging and on the audit list; without changes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import dropwhile
from typing import Any, NamedTuple, cast

import msgspec

from rlm.core.clock import isoformat
from rlm.core.item import MAX_PRIORITY, PRIORITY_STEP, event_id
from rlm.core.trail import Place
from rlm.ledger import Store
from rlm.ledger.connect import translated
from rlm.ledger.reading import PAGE, Held, Waiter, events_in, fields_of, held_events, waits_since
from rlm.ledger.reading.pages import pages
from rlm.ledger.scripts import ask
from rlm.ledger.values import MICROSECONDS, reading, whole

#: The most events read for one page. If too few of them match, the next page continues there.
MOST_LOOKED = 100_000
#: The states of waiting events, in the order of the list.
WAITING = (Place.PENDING, Place.LEFTOVER, Place.BACKING_OFF, Place.SPENT, Place.QUEUED)

_MARK = re.compile(r"([a-z_]+):([^:]*):(\d{1,18}):(.*)", re.ASCII)
#: The parts that are lists of items.
_LISTS = ("staging", "list")


class EventFilter(msgspec.Struct, frozen=True):
    """A filter for events: all given values must match, and one of the types and states."""

    types: Collection[str] = ()
    wallet: str = ""
    item: str = ""
    older_seconds: float | None = None
    states: Collection[str] = ()

    def fits(self, event: Waiter, now: float) -> bool:
        """Return whether an event matches."""
        return (
            (not self.types or event.type in self.types)
            and (not self.wallet or event.wallet_name == self.wallet)
            and (not self.item or event.item_id == self.item)
            and (self.older_seconds is None or (event.since is not None and now - event.since >= self.older_seconds))
        )


class Mark(NamedTuple):
    """A position in the list of waiting events, after an event.

    In the ledger it consists of the `score`, and the event's id (`behind`) among those of the same score; the score of
    an event that spent its attempts is 0. In a list it is after `score` items and `behind` events of the next item.
    """

    part: str
    type: str
    score: int = 0
    behind: str = ""

    @classmethod
    def read(cls, text: str) -> Mark | None:
        """Return a mark from its text form, None for any other text."""
        found = _MARK.fullmatch(text)
        if found is None or (found[1] in _LISTS and not re.fullmatch(r"\d{0,9}", found[4], re.ASCII)):
            return None
        return cls(found[1], found[2], int(found[3]), found[4])

    def __str__(self) -> str:
        return ":".join(map(str, self))


class WaitingPage(NamedTuple):
    """Some events, and the mark after which the list continues, None at its end."""

    events: list[Waiter]
    after: Mark | None


def waiting_page(store: Store, wanted: EventFilter, number: int, after: Mark | None = None) -> WaitingPage:
    """Return the first `number` matching events after `after`, and where the list continues.

    Types come in the configured order. Within a type, pending events come first, then those backing off and those out
    of attempts. Staging and the audit list come last, the oldest item first. Memory is constant, and
    no step blocks Redis for long. Events that move meanwhile may be missed or appear twice.
    """
    found: list[Waiter] = []
    now, looked, last = store.now(), 0, after
    for mark, event in walk(store, wanted, after):
        if len(found) == number or looked == MOST_LOOKED:
            return WaitingPage(found, last)
        looked, last = looked + 1, mark
        if event is not None and wanted.fits(event, now):
            found.append(event)
    return WaitingPage(found, None)


def list_waiting(store: Store, wanted: EventFilter, number: int, after: Mark | None = None) -> dict[str, Any]:
    """Return a page of waiting events as `rlm queue list` prints it; see `waiting_page`."""
    page, now = waiting_page(store, wanted, number, after), store.now()
    return {
        "events": [
            {
                "event_id": one.event_id,
                "type": one.type,
                "item_id": one.item_id,
                "wallet_name": one.wallet_name,
                "state": one.state,
                "priority": one.priority,
                "since": None if one.since is None else isoformat(one.since),
                "waiting_seconds": None if one.since is None else round(max(0.0, now - one.since), 3),
                "due_in_seconds": None if one.due is None else round(max(0.0, one.due - now), 3),
                "item": _item_of(one),
            }
            for one in page.events
        ],
        "next": str(page.after) if page.after else None,
    }


def _item_of(event: Waiter) -> dict[str, Any]:
    """Return the item of an event as it came, with this event alone: pushed again, it is the same event."""
    try:
        return {**msgspec.json.decode(event.item, type=dict[str, msgspec.Raw]), "events": [event.type]}
    except (ValueError, RecursionError):  # not what RLM wrote
        return {}


def walk(store: Store, wanted: EventFilter, after: Mark | None = None) -> Iterator[tuple[Mark, Waiter | None]]:
    """Yield all candidates after a mark, each with the mark after it; None for an event settled meanwhile."""
    parts = list(_parts(store, wanted))
    if after is not None:
        parts = list(dropwhile(lambda part: part[0][:2] != after[:2], parts))
        parts[:1] = [(after, place) for _, place in parts[:1]]
    held: dict[str, list[Held]] | None = None  # read when it is needed first
    for mark, place in parts:
        if place is Place.QUEUED:
            yield from _listed(store, mark)
        elif place in {Place.BACKING_OFF, Place.SPENT}:
            held = held_events(store) if held is None else held
            yield from _held(store, mark, place, held.get(mark.type, ()), wanted)
        elif wanted.item:
            yield from _by_id(store, mark, place, wanted.item)
        else:
            yield from _ready(store, mark, place)


def _parts(store: Store, wanted: EventFilter) -> Iterator[tuple[Mark, Place]]:
    """Yield the parts that may hold matching events: the mark at the start of each, and the state of its events."""
    pending = Place.PENDING if ask(store.client, "EXISTS", store.keys.run) else Place.LEFTOVER
    for name in store.known_types:
        if not wanted.types or name in wanted.types:
            for part, place in (("pending", pending), *((one.value, one) for one in WAITING[2:4])):
                if not wanted.states or place in wanted.states:
                    yield Mark(part, name), place
    if not wanted.states or Place.QUEUED in wanted.states:
        yield from ((Mark(part, ""), Place.QUEUED) for part in _LISTS)


def _ready(store: Store, mark: Mark, place: Place) -> Iterator[tuple[Mark, Waiter | None]]:
    zset = store.keys.ready(mark.type)
    passed = 0  # events of the page's first score to skip; used only if more than a page have the same score
    while True:
        with translated(store.client):
            found = store.client.zrangebyscore(zset, mark.score, "+inf", start=passed, num=PAGE, withscores=True)
        page = [(int(score), one.decode()) for one, score in cast("list[tuple[bytes, float]]", found)]
        new = [one for one in page if one > (mark.score, mark.behind)]
        for (score, one), event in zip(new, _look(store, new, place), strict=True):
            mark = mark._replace(score=score, behind=one)
            yield mark, event
        if len(page) < PAGE:
            return
        passed = 0 if new else passed + len(page)


def _by_id(store: Store, mark: Mark, place: Place, item: str) -> Iterator[tuple[Mark, Waiter | None]]:
    """Look up the event of one item, whose id follows from the item and the type."""
    one = event_id(item, mark.type)
    score = ask(store.client, "ZSCORE", store.keys.ready(mark.type), one)
    if score is not None and (int(score), one) > (mark.score, mark.behind):
        yield mark._replace(score=int(score), behind=one), next(_look(store, [(int(score), one)], place))


def _held(
    store: Store, mark: Mark, place: Place, held: Sequence[Held], wanted: EventFilter
) -> Iterator[tuple[Mark, Waiter | None]]:
    """Yield events that wait for a later moment, the earliest first."""
    due = [
        (0 if place is Place.SPENT else round(one.due * MICROSECONDS), one.event_id)
        for one in held
        if one.place is place
    ]
    new = sorted(one for one in due if one > (mark.score, mark.behind))
    if wanted.item:
        new = [one for one in new if one[1] == event_id(wanted.item, mark.type)]
    for start in range(0, len(new), PAGE):
        page = new[start : start + PAGE]
        for (score, one), event in zip(page, _look(store, page, place), strict=True):
            mark = mark._replace(score=score, behind=one)
            yield mark, event


def _look(store: Store, found: Sequence[tuple[int, str]], place: Place) -> Iterator[Waiter | None]:
    entries = fields_of(store, (one for _, one in found), "wallet", "item", "taken_at", "score")
    for (score, one), (wallet, item, taken_at, order) in zip(found, entries, strict=True):
        priority = max(0, MAX_PRIORITY - reading(whole, order, one, int(score)) // PRIORITY_STEP)
        due = score / MICROSECONDS if place is Place.BACKING_OFF else None
        name = (wallet or b"").decode()
        waiter = Waiter(one, name, place, priority, waits_since(item, taken_at), due, item or b"")
        yield waiter if item is not None else None


def _listed(store: Store, mark: Mark) -> Iterator[tuple[Mark, Waiter | None]]:
    """Yield the events of a list's items, oldest first, without items that will be dead letters."""
    key = store.keys.processing if mark.part == "staging" else store.keys.events
    for page in pages(store, key, mark.score):
        for raw in page.items:
            for number, event in enumerate(events_in(store, raw), start=1):
                if number > int(mark.behind or 0):
                    mark = mark._replace(behind=str(number))
                    yield mark, event
            mark = mark._replace(score=mark.score + 1, behind="")
            yield mark, None
