"""The ledger: its keys, the open run, the books."""

from __future__ import annotations

from collections.abc import Iterator

from rlm.core.text import named, safe_line, span
from rlm.ledger import Store
from rlm.ledger.fitness import Finding, fault, good
from rlm.ledger.inspection import bad_records
from rlm.ledger.reading.books import books, miscounted

#: The conductor closes runs at their deadline. What is overdue for more seconds than this is neglected.
OVERDUE_SECONDS = 5.0
#: Keys to name; the others are counted.
MOST_NAMED = 10
_MEND = (
    "find out who wrote it, and let RLM's user alone write there (docs/security.md); then `redis-cli DEL {key}`. "
    "A window forgets its calls with that: first pause its endpoint for its longest period (`rlm endpoint pause`)"
)


def check_keys(store: Store) -> Iterator[Finding]:
    """Check for keys that hold what RLM does not write; the next checks leave their types out."""
    flaws = [*store.find_flaws(), *bad_records(store)]
    for flaw in flaws[:MOST_NAMED]:
        out = f"; meanwhile {named(sorted(flaw.types), MOST_NAMED)} is left out" if flaw.types else ""
        yield fault(f"{safe_line(flaw.key)} {flaw.wrong}{out}", _MEND.format(key=safe_line(flaw.key)))
    if len(flaws) > MOST_NAMED:
        yield fault(
            f"{len(flaws) - MOST_NAMED:,} more keys hold what RLM does not write", "mend those that are named first"
        )
    if not flaws:
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
