"""Runs and events: the open and the last run, staging, the books; orphans, stuck events, unknown types."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

from rlm.admin.doctor.findings import fault, good, warning
from rlm.core import tally
from rlm.core.event import BadItemError, decode_item
from rlm.core.text import named, span
from rlm.core.trail import Place
from rlm.ledger.outage import LASTING_SECONDS
from rlm.ledger.processes import Role
from rlm.ledger.reading import count_due, field_of_each, scores
from rlm.ledger.reading.backlog import item_pages
from rlm.ledger.reading.books import books, miscounted
from rlm.plan.cause import verdict, went_wrong

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rlm.ledger import Store
    from rlm.ledger.fitness import Finding

#: The conductor looks for due events several times a second, and closes runs at their deadline. What is overdue by
#: more than this is not attended to, seconds.
OVERDUE_SECONDS = 5.0
#: Events read of each type and place, and pages of the oldest items.
MOST_EVENTS = 1000
MOST_PAGES = 10
#: Types or workers named in a finding; the others are counted.
MOST_NAMED = 10
_MICROSECONDS = 1_000_000
_CONDUCT = "nothing, while a scheduler leads: it takes them back and sends them again; else start one (`rlm scheduler`)"
_UNKNOWN = (
    "add a [types.*] table and restart the processes before the next run, or correct who pushes them; afterwards "
    "`rlm failed retry` brings them back"
)


def check_run(store: Store) -> Iterator[Finding]:
    """Check whether an open run should have been closed."""
    run = store.runs.current()
    if run is None:
        yield good("run", "none is open")
        return
    overdue = -run.left_seconds(store.now_us())
    if overdue <= OVERDUE_SECONDS:
        yield good("run", f"{run.id} is {run.state}")
        return
    message = f"{run.id} should have been closed {span(overdue)} ago"
    yield fault("run", message, "start a scheduler, which closes it, or close it with `rlm cancel`; nothing is lost")


def check_last_run(store: Store) -> Iterator[Finding]:
    """Check whether the last run failed, or why it left events over."""
    for record in store.runs.recent(1):
        why = record.get("why", [])
        troubles = tally.in_words(record.get("troubles", ()))
        away = tally.away_in_words(record)
        said = "; ".join(filter(None, [away, verdict(why), f"calls went wrong: {troubles}" if troubles else ""]))
        told = f"{record['run_id']} ended {record['state']}{f': {said}' if said else ''}"
        was_away = record.get("redis_away_seconds", 0) >= LASTING_SECONDS
        if was_away or went_wrong(why) or tally.ill(record):
            yield warning("last run", told, _remedy(record))
        else:
            yield good("last run", told)


def _remedy(record: Mapping[str, Any]) -> str:
    letters = record["counts"]["failed"]
    again = "; `rlm failed retry` sends the dead letters again" if letters else ""
    return f"mend what is named; nothing is lost, and the next run takes what was left over first{again}"


def check_staging(store: Store) -> Iterator[Finding]:
    """Check for items in staging while no run is open to take them."""
    found = books(store)
    if found.run_id is not None:
        yield good("staging", f"{found.staged} items, a run is open")
    elif not found.staged:
        yield good("staging", "empty")
    else:
        message = f"{found.staged} items are in staging from a drain that was cut short"
        yield warning("staging", message, "nothing is lost: the next run takes them first; `rlm start` starts one")


def check_books(store: Store) -> Iterator[Finding]:
    """Check that every event is accounted for."""
    newest = store.runs.recent(1)
    found = books(store)
    faults = [*found.faults, *(one for record in newest for one in miscounted(store, found, record))]
    remedy = "this is a fault of RLM: keep a copy of the data of Redis and its logs, and report it"
    if not faults:
        yield good("books", f"they balance: {found.unsettled} events unsettled in the ledger")
    for one in faults:
        yield fault("books", one, remedy)


def check_orphans(store: Store) -> Iterator[Finding]:
    """Check for events held by workers that are gone, and for dead workers that nobody has cleaned up after."""
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
    alive |= _alive(store)  # some may have started or ended meanwhile
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
    """Check for events that have waited for more runs than they may fail in, and for overdue back-offs."""
    now_us = store.now_us()
    long = store.settings.retry.max_runs * store.settings.run.every_seconds
    found = list(_waiting_long(store, now_us / _MICROSECONDS, long))
    if store.runs.current() and (late := _late_backoffs(store, now_us)):
        message = f"events that should have left their back-off more than {OVERDUE_SECONDS:g} s ago: {late:,}"
        found.append(warning("stuck", message, "the conductor does not get on: see the scheduler and its log"))
    yield from found or [good("stuck", f"no event has waited for more than {long:g} s in the ledger")]


def _waiting_long(store: Store, now: float, long: float) -> Iterator[Finding]:
    """Yield a warning for each type whose oldest event has waited for longer than `long` seconds."""
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
    """Check for events of unconfigured types in the ledger and in the oldest items."""
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


def _unknown_in_items(store: Store, known: set[str]) -> tuple[Counter[str], int]:
    """Return the events of unknown types in the oldest items, and the number of pages read."""
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
