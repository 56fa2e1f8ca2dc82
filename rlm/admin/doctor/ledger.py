"""The ledger: its keys, the open and the last run, orphans, stuck events, unknown types, staging, the books."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice

from rlm.admin.attendance import led_otherwise
from rlm.core import tally
from rlm.core.item import BadItemError, decode_item
from rlm.core.text import named, safe_line, span
from rlm.core.trail import Place
from rlm.ledger import Store
from rlm.ledger.fitness import Finding, fault, good, warning
from rlm.ledger.inspection import bad_records
from rlm.ledger.processes import Role
from rlm.ledger.reading import count_due, field_of_each, scores
from rlm.ledger.reading.backlog import item_pages
from rlm.ledger.reading.books import books, miscounted
from rlm.ledger.trouble import LASTING_SECONDS
from rlm.ledger.values import MICROSECONDS, moment, reading
from rlm.plan.cause import verdict, went_wrong

#: The conductor looks for due events several times a second, and closes runs at their deadline. What is overdue for
#: more seconds than this is neglected.
OVERDUE_SECONDS = 5.0
#: Events to read of each type and place, and pages of the oldest items.
MOST_EVENTS = 1000
MOST_PAGES = 10
#: Types, workers or keys to name; the others are counted.
MOST_NAMED = 10
_OVERDUE_US = round(OVERDUE_SECONDS * MICROSECONDS)
_CONDUCT = "nothing if a scheduler leads: it takes them back and sends them again; else start one (`rlm scheduler`)"
#: Keys to name.
MOST_KEYS = 20
_MEND = (
    "find out who wrote it, and let RLM's user alone write there (docs/security.md); then `redis-cli DEL {key}`. "
    "A window forgets its calls with that: first pause its endpoint for its longest period (`rlm endpoint pause`)"
)
_BY_LEADER = "but whether a run takes them or makes dead letters of them is not known here: {}"
_UNKNOWN = (
    "add a [types.*] table and restart the processes before the next run, or correct the program that pushes them; "
    "afterwards `rlm failed retry` brings them back"
)


def check_keys(store: Store) -> Iterator[Finding]:
    """Check for keys that hold what RLM does not write; the next checks leave their types out."""
    flaws = [*store.find_flaws(), *bad_records(store)]
    for flaw in flaws[:MOST_KEYS]:
        out = f"; meanwhile {named(sorted(flaw.types), MOST_NAMED)} is left out" if flaw.types else ""
        yield fault(f"{safe_line(flaw.key)} {flaw.wrong}{out}", _MEND.format(key=safe_line(flaw.key)))
    if len(flaws) > MOST_KEYS:
        yield fault(
            f"{len(flaws) - MOST_KEYS:,} more keys hold what RLM does not write", "mend those that are named first"
        )
    if not flaws:
        yield good("each has valid content")


def check_run(store: Store) -> Finding:
    """Check whether an open run should have been closed."""
    run = store.runs.current()
    if run is None:
        return good("none is open")
    overdue = -run.left_seconds(store.now_us())
    if overdue <= OVERDUE_SECONDS:
        return good(f"{run.id} is {run.state}")
    remedy = "start a scheduler, which closes it, or close it with `rlm cancel`; nothing is lost"
    return fault(f"{run.id} should have been closed {span(overdue)} ago", remedy)


def check_last_run(store: Store) -> Iterator[Finding]:
    """Check whether the last run failed, or why it left events over."""
    for record in store.runs.recent(1):
        why, troubles = record.why, tally.in_words(record.troubles)
        causes = [
            tally.away_in_words(record.redis_away_seconds),
            verdict(why),
            f"calls went wrong: {troubles}" if troubles else "",
        ]
        said = "; ".join(filter(None, causes))
        message = f"{record.run_id} ended {record.state}{f': {said}' if said else ''}"
        was_away = record.redis_away_seconds >= LASTING_SECONDS
        again = "; `rlm failed retry` sends the dead letters again" if record.counts.failed else ""
        remedy = f"repair what is named; nothing is lost, and the next run takes what was left over first{again}"
        went_badly = was_away or went_wrong(why) or tally.ill(record)
        yield warning(message, remedy) if went_badly else good(message)


def check_staging(store: Store) -> Finding:
    """Check for items in staging while no run is open to take them."""
    found = books(store)
    if found.run_id is not None:
        return good(f"{found.staged} items, a run is open")
    if not found.staged:
        return good("empty")
    message = f"{found.staged} items are in staging from a drain that was cut short"
    return warning(message, "nothing is lost: the next run takes them first; `rlm start` starts one")


def check_books(store: Store) -> list[Finding]:
    """Check that every event is accounted for."""
    newest = store.runs.recent(1)
    found = books(store)
    faults = [*found.faults, *(one for record in newest for one in miscounted(store, found, record))]
    remedy = "this is a fault of RLM: keep a copy of the data of Redis and its logs, and report it"
    balance = good(f"they balance: {found.unsettled} events unsettled in the ledger")
    return [fault(one, remedy) for one in faults] or [balance]


def check_orphans(store: Store) -> list[Finding]:
    """Check for events held by dead workers, and for dead workers that nobody has cleaned up after."""
    run, missing = store.runs.current(), store.processes.missing(Role.WORKER)
    found = list(_orphans(store)) if run else []
    if missing:
        message = f"{named(missing, MOST_NAMED)}: no longer heard from, and nobody has cleaned up after them"
        remedy = (
            "nothing: their supervisor cleans up, or else the scheduler between two runs; see in the log why they died"
        )
        found.append(warning(message, remedy))
    return found or [good("every event under way is held by a live worker")]


def _orphans(store: Store) -> Iterator[Finding]:
    alive = _alive(store)
    before_us = store.now_us() - _OVERDUE_US
    owners: Counter[str] = Counter()
    overdue = 0
    for name in store.known_types:
        ends = scores(store, name, Place.IN_FLIGHT, MOST_EVENTS)
        overdue += sum(abs(end) < before_us for end in ends.values())
        owners.update(filter(None, field_of_each(store, list(ends), "owner")))
    untaken = sum(release.void < before_us for release in store.turns.releases())
    alive |= _alive(store)  # workers may have started meanwhile
    dead = {owner: number for owner, number in owners.items() if owner not in alive}
    late = f"more than {OVERDUE_SECONDS:g} s"
    for number, what, who in (
        (sum(dead.values()), "events held by workers that are gone", f" ({named(list(dead), MOST_NAMED)})"),
        (overdue, f"events whose lease expired {late} ago and that nobody took back", ""),
        (untaken, f"calls that should have been made or taken back {late} ago", ""),
    ):
        if number:
            yield warning(f"{what}: {number:,}{who}", _CONDUCT)


def _alive(store: Store) -> set[str]:
    return {one.id for one in store.processes.alive(Role.WORKER)}


def check_stuck(store: Store) -> list[Finding]:
    """Check for events that wait longer than the runs they may fail in, and for overdue back-offs."""
    now_us = store.now_us()
    long = store.settings.retry.max_runs * store.settings.run.every_seconds
    found = list(_waiting_long(store, now_us / MICROSECONDS, long))
    if store.runs.current() and (late := count_due(store, Place.BACKING_OFF, now_us - _OVERDUE_US)):
        message = f"events that should have left their back-off more than {OVERDUE_SECONDS:g} s ago: {late:,}"
        found.append(warning(message, "the conductor makes no progress: see the scheduler and its log"))
    return found or [good(f"no event has waited for more than {long:g} s in the ledger")]


def _waiting_long(store: Store, now: float, long: float) -> Iterator[Finding]:
    for name in store.known_types:
        waits: dict[str, float] = {}
        for place in (Place.PENDING, Place.RETRIED):
            ids = list(scores(store, name, place, MOST_EVENTS))
            taken = zip(ids, field_of_each(store, ids, "taken_at"), strict=True)
            waits.update({one: now - reading(moment, at.encode(), one, now) for one, at in taken if at})
        oldest = max(waits, key=lambda one: waits[one], default="")
        if oldest and waits[oldest] > long:
            number = sum(wait > long for wait in waits.values())
            message = f"events of {name} that have waited in the ledger for more than {long:g} s: {number:,}"
            remedy = f"`rlm explain {oldest}` shows what it waits for, `rlm plan` whether that will end"
            yield warning(f"{message}; {oldest} for {span(waits[oldest])}", remedy)


def check_unknown_types(store: Store) -> list[Finding]:
    """Check for events of unconfigured types in the ledger and in the oldest items."""
    known = {one.name for one in store.settings.event_types}
    accounts = books(store).by_type
    in_ledger = {name: one.unsettled + one.retried for name, one in accounts.items() if name not in known}
    in_items, pages = _unknown_in_items(store, known)
    found, otherwise = [], led_otherwise(store)
    if any(in_ledger.values()):
        then = _BY_LEADER.format(otherwise) if otherwise else "so they become dead letters when the next run starts"
        message = f"{_counted(in_ledger)} wait in the ledger: no such type is configured"
        found.append(warning(f"{message}, {then}", _UNKNOWN))
    if in_items:
        read = "" if pages < MOST_PAGES else " (of the oldest items)"
        then = _BY_LEADER.format(otherwise) if otherwise else "so they become dead letters when they are taken"
        message = f"{_counted(in_items)} wait on the audit list{read}: no such type is configured"
        found.append(warning(f"{message}, {then}", _UNKNOWN))
    return found or [good("no event of a type that is not configured waits")]


def _unknown_in_items(store: Store, known: set[str]) -> tuple[Counter[str], int]:
    """Return the events of unknown types in the oldest items, and the number of pages read."""
    found: Counter[str] = Counter()
    pages = list(islice(item_pages(store), MOST_PAGES))
    for page in pages:
        for raw in page:
            try:
                item = decode_item(raw, store.settings.queue.max_item_bytes)
            except BadItemError:
                continue
            found.update(event.type for event in item.events if event.type not in known)
    return found, len(pages)


def _counted(numbers: Mapping[str, int]) -> str:
    return named([f"{number:,} of {name}" for name, number in numbers.items() if number], MOST_NAMED)
