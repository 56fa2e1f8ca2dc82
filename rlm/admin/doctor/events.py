"""Events that do not get on: orphans of dead workers, those that wait for ever, those of types nobody configured."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from rlm.admin.doctor.findings import good, warning
from rlm.core.event import BadItemError, decode_item
from rlm.core.text import named, span
from rlm.core.trail import Place
from rlm.ledger.processes import Role
from rlm.ledger.reading.backlog import item_pages
from rlm.ledger.reading.books import books
from rlm.ledger.reading.events import count_due, field_of_each, scores

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.ledger import Store
    from rlm.ledger.fitness import Finding

#: The conductor looks several times a second for what is due; what is due for longer it does not see, seconds.
OVERDUE_SECONDS = 5.0
#: Events looked at of each type and place, and the oldest pages of items.
MOST_EVENTS = 1000
MOST_PAGES = 10
#: So many types or workers are named; of others only the number is told.
MOST_NAMED = 10

_MICROSECONDS = 1_000_000
_CONDUCT = "nothing, while a scheduler leads: it takes them back and sends them again; else start one (`rlm scheduler`)"


def check_orphans(store: Store) -> Iterator[Finding]:
    """Look for events in the hands of workers that are gone, and workers that nobody has cleaned up after."""
    run, missing = store.runs.current(), store.processes.missing(Role.WORKER)
    found = list(_orphans(store)) if run else []
    if missing:
        message = f"{named(missing, MOST_NAMED)}: not heard of any more, and nobody has cleaned up after them"
        remedy = "nothing: their supervisor does, else the scheduler between two runs; see why they died (the log)"
        found.append(warning("orphans", message, remedy))
    yield from found or [good("orphans", "every event under way is in the hands of a worker that lives")]


def _orphans(store: Store) -> Iterator[Finding]:
    alive = _alive(store)
    now_us = store.now_us()
    owners: Counter[str] = Counter()
    overdue = 0
    for name in store.known_types:
        ends = scores(store, name, Place.IN_FLIGHT, MOST_EVENTS)
        overdue += sum(abs(end) < now_us - OVERDUE_SECONDS * _MICROSECONDS for end in ends.values())
        owners.update(filter(None, field_of_each(store, list(ends), "owner")))
    unclaimed = count_due(store, Place.RELEASED, now_us - round(OVERDUE_SECONDS * _MICROSECONDS))
    alive |= _alive(store)  # some have come up or left meanwhile, with all that they had in hand
    if dead := {owner: number for owner, number in owners.items() if owner not in alive}:
        message = (
            f"events in the hands of workers that are gone: {sum(dead.values()):,} ({named(list(dead), MOST_NAMED)})"
        )
        yield warning("orphans", message, _CONDUCT)
    if overdue:
        message = f"events whose lease ran out more than {OVERDUE_SECONDS:g} s ago, and nobody took them back"
        yield warning("orphans", f"{message}: {overdue:,}", _CONDUCT)
    if unclaimed:
        message = f"released events that nobody has claimed for more than {OVERDUE_SECONDS:g} s: {unclaimed:,}"
        yield warning("orphans", message, _CONDUCT)


def _alive(store: Store) -> set[str]:
    return {one.id for one in store.processes.alive(Role.WORKER)}


def check_stuck(store: Store) -> Iterator[Finding]:
    """Look for events that have waited for more runs than they may fail in, and for back-offs that nobody ends."""
    now_us = store.now_us()
    long = store.settings.retry.max_runs * store.settings.run.every_seconds
    found = list(_waiting_long(store, now_us / _MICROSECONDS, long))
    if store.runs.current() and (late := _late_backoffs(store, now_us)):
        message = f"events that should have left their back-off more than {OVERDUE_SECONDS:g} s ago: {late:,}"
        found.append(warning("stuck", message, "the conductor does not get on: see the scheduler and its log"))
    yield from found or [good("stuck", f"no event has waited for more than {long:g} s in the ledger")]


def _waiting_long(store: Store, now: float, long: float) -> Iterator[Finding]:
    """Tell of each type whose oldest event waits for longer than `long`, of those looked at."""
    for name in store.known_types:
        waits: dict[str, float] = {}
        for place in (Place.PENDING, Place.RETRIED):
            ids = list(scores(store, name, place, MOST_EVENTS))
            taken = zip(ids, field_of_each(store, ids, "taken_at"), strict=True)
            waits.update({one: now - float(at) for one, at in taken if at})
        oldest = max(waits, key=lambda one: waits[one], default="")
        if oldest and waits[oldest] > long:
            number = sum(wait > long for wait in waits.values())
            message = f"events of {name} that have waited in the ledger for more than {long:g} s: {number:,}"
            remedy = f"`rlm explain {oldest}` says what it waits for, `rlm plan --windows 10` whether that ends"
            yield warning("stuck", f"{message}; {oldest} for {span(waits[oldest])}", remedy)


def _late_backoffs(store: Store, now_us: int) -> int:
    return count_due(store, Place.BACKING_OFF, now_us - round(OVERDUE_SECONDS * _MICROSECONDS))


def check_unknown_types(store: Store) -> Iterator[Finding]:
    """Look for events of types that are not configured, in the ledger and in the oldest items: nothing sends them."""
    known = {one.name for one in store.settings.event_types}
    accounts = books(store).by_type
    in_ledger = {name: one.unsettled + one.retried for name, one in accounts.items() if name not in known}
    waiting, pages = _unknown_in_items(store, known)
    found = []
    if ledger := {name: number for name, number in in_ledger.items() if number}:
        message = f"in the ledger wait {_counted(ledger)}: no such type is configured, so they become dead letters"
        found.append(warning("types", f"{message} when the next run starts", _UNKNOWN))
    if waiting:
        read = "" if pages < MOST_PAGES else ", of the oldest"
        message = f"on the audit list wait{read} {_counted(waiting)}: no such type is configured"
        found.append(warning("types", f"{message}, so they become dead letters when they are taken", _UNKNOWN))
    yield from found or [good("types", "no event waits whose type is not configured")]


_UNKNOWN = (
    "add a [types.*] table and restart the processes before the next run, or correct who pushes them; afterwards "
    "`rlm failed retry` brings them back"
)


def _unknown_in_items(store: Store, known: set[str]) -> tuple[Counter[str], int]:
    """Count the events of unknown types in the oldest items; and the pages read."""
    found: Counter[str] = Counter()
    pages = 0
    for page in islice(item_pages(store), MOST_PAGES):
        pages += 1
        for raw in page:
            try:
                item = decode_item(raw, store.settings.queue.max_item_bytes)
            except BadItemError:
                continue
            found.update(event.type for event in item.events if event.type not in known)
    return found, pages


def _counted(numbers: dict[str, int] | Counter[str]) -> str:
    return named([f"{number:,} of {name}" for name, number in numbers.items()], MOST_NAMED)
