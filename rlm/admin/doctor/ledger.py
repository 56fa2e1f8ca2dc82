"""The ledger: its keys, the open run, the books."""

from __future__ import annotations

from collections.abc import Iterator

from rlm.core.clock import isoformat
from rlm.core.text import safe_line, span
from rlm.ledger import Store
from rlm.ledger.fitness import Finding, fault, good, warning
from rlm.ledger.inspection import inspect
from rlm.ledger.reading.books import books, miscounted

#: The conductor closes runs at their deadline. What is overdue for more seconds than this is neglected.
OVERDUE_SECONDS = 5.0
#: Keys to name; the others are counted.
MOST_NAMED = 10


def check_keys(store: Store) -> Iterator[Finding]:
    """Check for keys of the wrong type or with invalid data, and for keys in quarantine."""
    flaws, asides = inspect(store, deep=True, records=True), store.quarantine.all()
    for flaw in flaws:
        remedy = (
            "nothing if a scheduler leads: it sets this aside within seconds and continues; else start one (`rlm "
            "scheduler`). Find out who wrote it"
        )
        yield fault(f"{safe_line(flaw.key)} {safe_line(flaw.wrong)}", remedy)
    for aside in asides[:MOST_NAMED]:
        where = safe_line(aside.where)
        message = (
            f"{aside.key} was set aside at {isoformat(aside.at)}, because it {aside.wrong}; what it held is in {where}"
        )
        yield warning(message, f"find out who wrote it, save what you need, then `redis-cli DEL {where}`")
    if len(asides) > MOST_NAMED:
        more = f"{len(asides) - MOST_NAMED:,} more keys were set aside before"
        yield warning(more, f"`redis-cli HGETALL {store.keys.quarantine}` names them")
    if not flaws and not asides:
        yield good("each has valid content")


def check_run(store: Store) -> Iterator[Finding]:
    """Check whether an open run should have been closed."""
    run = store.runs.current()
    overdue = -run.left_seconds(store.now_us()) if run else 0.0
    if run is None:
        yield good("none is open")
    elif overdue <= OVERDUE_SECONDS:
        yield good(f"{run.id} is {run.state}")
    else:
        remedy = "start a scheduler, which closes it, or close it with `rlm cancel`; nothing is lost"
        yield fault(f"{run.id} should have been closed {span(overdue)} ago", remedy)


def check_books(store: Store) -> list[Finding]:
    """Check that every event is accounted for."""
    newest = store.runs.recent(1)
    found = books(store)
    faults = [*found.faults, *(one for record in newest for one in miscounted(store, found, record))]
    remedy = "this is a fault of RLM: keep a copy of the data of Redis and its logs, and report it"
    balance = good(f"they balance: {found.unsettled} events unsettled in the ledger")
    return [fault(one, remedy) for one in faults] or [balance]
