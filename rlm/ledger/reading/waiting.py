"""The events that wait, one by one and page by page: in the ledger, in staging, on the audit list; left in place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from rlm.core.clock import isoformat
from rlm.core.event import MAX_PRIORITY, BadItemError, decode_item, event_id
from rlm.core.trail import Place
from rlm.ledger.connect import translated
from rlm.ledger.intake import PRIORITY_STEP
from rlm.ledger.reading.backlog import list_pages, stamped_at, waits_since

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rlm.ledger import Store

#: Events looked at for one page at the most: where few fit, the next page goes on from there.
MOST_LOOKED = 100_000
#: The states in which an event waits, in the order of the list.
WAITING = (Place.PENDING, Place.LEFTOVER, Place.BACKING_OFF, Place.SPENT, Place.RETRIED, Place.QUEUED)

_PAGE = 200
_MARK = re.compile(r"([a-z_]+):([^:]*):(\d{1,18}):(.*)", re.ASCII)
#: The parts that are lists of items.
_LISTS = ("staging", "list")
_MICROSECONDS = 1_000_000
_FIELDS = ("wallet", "item", "taken_at", "score")


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are meant: those that fit all that is given, of types and states one of several."""

    types: frozenset[str] = frozenset()
    wallet: str = ""
    item: str = ""
    older_seconds: float | None = None
    states: frozenset[Place] = frozenset()

    def fits(self, event: Waiter, now: float) -> bool:
        """Return whether an event is meant."""
        return (
            (not self.types or event.type in self.types)
            and (not self.wallet or event.wallet_name == self.wallet)
            and (not self.item or event.item_id == self.item)
            and (self.older_seconds is None or (event.since is not None and now - event.since >= self.older_seconds))
        )


@dataclass(frozen=True, slots=True)
class Waiter:
    """An event that waits. `since` and `due`, when its back-off is over, are in seconds since 1970.

    `priority` is None on the audit list where its item brings none.
    """

    event_id: str
    wallet_name: str
    state: Place
    priority: int | None
    since: float | None
    due: float | None = None

    @property
    def item_id(self) -> str:
        """The id of its item."""
        return self.event_id.rpartition(":")[0]

    @property
    def type(self) -> str:
        """The name of its type."""
        return self.event_id.rpartition(":")[2]


class Mark(NamedTuple):
    """A place in the list of what waits, behind an event.

    In a zset that is its `score`, and the event's id decides between those of one score. In a list `score` items were
    passed, and so many events of the next as `behind` says.
    """

    part: str
    type: str
    score: int = 0
    behind: str = ""

    @classmethod
    def read(cls, text: str) -> Mark | None:
        """Read a mark as `str` writes it; None where it is none."""
        found = _MARK.fullmatch(text)
        if found is None or (found[1] in _LISTS and not re.fullmatch(r"\d{0,9}", found[4], re.ASCII)):
            return None
        return cls(found[1], found[2], int(found[3]), found[4])

    def __str__(self) -> str:
        return ":".join(map(str, self))


class WaitingPage(NamedTuple):
    """Some events, and behind which mark the list goes on; None where it ends."""

    events: list[Waiter]
    after: Mark | None


def waiting_page(store: Store, wanted: EventFilter, number: int, after: Mark | None = None) -> WaitingPage:
    """Return the first `number` events behind `after` that wait and are wanted, and where the list goes on.

    Types come in the order of the configuration; of each what is pending, in its order, then what backs off, is out of
    attempts, and was retried by hand; then staging and the audit list, the oldest item first. Memory does not follow
    the number of events, nor does any step hold Redis up. What moves meanwhile may be missed or come twice.

    Raises:
        StoreError: Redis did not answer.
    """
    found: list[Waiter] = []
    now, looked, last = store.now_us() / _MICROSECONDS, 0, after
    for mark, event in walk(store, wanted, after):
        if len(found) == number or looked == MOST_LOOKED:
            return WaitingPage(found, last)
        looked, last = looked + 1, mark
        if event is not None and wanted.fits(event, now):
            found.append(event)
    return WaitingPage(found, None)


def page_document(page: WaitingPage, now: float) -> dict[str, Any]:
    """Return a page as `rlm queue list` prints it; `now` is in seconds since 1970, by the clock of Redis."""
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
            }
            for one in page.events
        ],
        "next": str(page.after) if page.after else None,
    }


def list_waiting(store: Store, wanted: EventFilter, number: int, after: Mark | None = None) -> dict[str, Any]:
    """Return a page of what waits as `rlm queue list` prints it; see `waiting_page`."""
    return page_document(waiting_page(store, wanted, number, after), store.now_us() / _MICROSECONDS)


def walk(store: Store, wanted: EventFilter, after: Mark | None = None) -> Iterator[tuple[Mark, Waiter | None]]:
    """Go through all that may be wanted behind a mark, each with the mark behind it; None for one settled meanwhile."""
    parts = list(_parts(store, wanted))
    start = next((at for at, (mark, _) in enumerate(parts) if after and mark[:2] == after[:2]), None)
    if after is not None and start is None:
        return
    for at, (first, place) in enumerate(parts[start or 0 :]):
        mark = after if after is not None and at == 0 else first
        if place is Place.QUEUED:
            yield from _listed(store, mark)
        elif wanted.item:
            yield from _by_id(store, mark, place, wanted.item)
        else:
            yield from _in_zset(store, mark, place)


def _parts(store: Store, wanted: EventFilter) -> Iterator[tuple[Mark, Place]]:
    """Yield the parts that may hold what is wanted: the mark at the beginning of each, and the state of its events."""
    with translated(store.client):
        pending = Place.PENDING if store.client.exists(store.keys.current) else Place.LEFTOVER
    for name in store.known_types:
        if not wanted.types or name in wanted.types:
            for part, place in (("pending", pending), *((one.value, one) for one in WAITING[2:5])):
                if not wanted.states or place in wanted.states:
                    yield Mark(part, name), place
    if not wanted.states or Place.QUEUED in wanted.states:
        yield from ((Mark(part, ""), Place.QUEUED) for part in _LISTS)


def _zset(store: Store, mark: Mark) -> str:
    keys = store.keys
    spell = {"pending": keys.pending, "backing_off": keys.backoff, "spent": keys.spent, "retried": keys.retried}
    return spell[mark.part](mark.type)


def _in_zset(store: Store, mark: Mark, place: Place) -> Iterator[tuple[Mark, Waiter | None]]:
    """Go through a zset by score, a page at a time."""
    passed = 0  # of the score at which a page begins: only where more have the same than fit a page
    while True:
        with translated(store.client):
            found = store.client.zrangebyscore(
                _zset(store, mark), mark.score, "+inf", start=passed, num=_PAGE, withscores=True
            )
        page = [(int(score), one.decode()) for one, score in cast("list[tuple[bytes, float]]", found)]
        new = [one for one in page if one > (mark.score, mark.behind)]
        for (score, one), event in zip(new, _look(store, new, place), strict=True):
            mark = mark._replace(score=score, behind=one)
            yield mark, event
        if len(page) < _PAGE:
            return
        passed = 0 if new else passed + len(page)


def _by_id(store: Store, mark: Mark, place: Place, item: str) -> Iterator[tuple[Mark, Waiter | None]]:
    """Look for the event of one item, whose id says where it would be."""
    one = event_id(item, mark.type)
    with translated(store.client):
        score = store.client.zscore(_zset(store, mark), one)
    if score is not None and (int(score), one) > (mark.score, mark.behind):
        yield mark._replace(score=int(score), behind=one), _look(store, [(int(score), one)], place)[0]


def _look(store: Store, found: Sequence[tuple[int, str]], place: Place) -> list[Waiter | None]:
    with translated(store.client):
        pipeline = store.client.pipeline(transaction=False)
        for _, one in found:
            pipeline.hmget(store.keys.event(one), _FIELDS)
        entries = pipeline.execute()
    return [
        _waiter(one, place, score, entry) if entry[1] is not None else None
        for (score, one), entry in zip(found, entries, strict=True)
    ]


def _waiter(one: str, place: Place, score: int, entry: Sequence[bytes | None]) -> Waiter:
    wallet, item, taken_at, order = entry
    priority = MAX_PRIORITY - int(order or 0) // PRIORITY_STEP
    due = score / _MICROSECONDS if place is Place.BACKING_OFF else None
    return Waiter(one, (wallet or b"").decode(), place, priority, waits_since(item, taken_at), due)


def _listed(store: Store, mark: Mark) -> Iterator[tuple[Mark, Waiter | None]]:
    """Go through the items of a list, the oldest first; what will be a dead letter as a whole is passed over."""
    key = store.keys.processing if mark.part == "staging" else store.keys.events
    for page in list_pages(store, key, mark.score):
        for raw in page:
            for number, event in enumerate(_events_of(store, raw), start=1):
                if number > int(mark.behind or 0):
                    mark = mark._replace(behind=str(number))
                    yield mark, event
            mark = mark._replace(score=mark.score + 1, behind="")
            yield mark, None


def _events_of(store: Store, raw: bytes) -> Iterator[Waiter]:
    try:
        item = decode_item(raw, store.settings.queue.max_item_bytes)
    except BadItemError:
        return
    for event in item.events:
        yield Waiter(event.id, item.wallet_name, Place.QUEUED, item.priority, stamped_at(raw))
