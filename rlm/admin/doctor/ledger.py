"""The ledger: its keys, the open run, the books."""

from __future__ import annotations

from collections.abc import Iterator

from rlm.core.text import safe_line, span
from rlm.ledger.connect import text
from rlm.ledger.fitness import Finding, fault, good
from rlm.ledger.reading.books import books, miscounted
from rlm.ledger.scripts import batch
from rlm.ledger.store import Store

#: The conductor closes runs at their deadline. What is overdue for more seconds than this is neglected.
OVERDUE_SECONDS = 5.0
_MEND = (
    "find out who wrote it, and let RLM's user alone write there (docs/security.md); then `redis-cli DEL {key}`. "
    "A window forgets its calls with that: first pause its endpoint for its longest period (`rlm endpoint pause`)"
)


def check_keys(store: Store) -> Iterator[Finding]:
    """Check for keys of another Redis type than RLM's, which stop what needs them."""
    window_ids = [endpoint.window_id for endpoint in store.settings.endpoints.values()]
    wanted = store.keys.kinds(store.settings.types, window_ids)
    types = map(text, batch(store.client, [("TYPE", key) for key in wanted]))
    flaws = [(key, is_now) for key, is_now in zip(wanted, types, strict=True) if is_now not in {wanted[key], "none"}]
    for key, is_now in flaws:
        shown = safe_line(key)
        yield fault(f"{shown} is a {is_now}, which RLM does not write", _MEND.format(key=shown))
    if not flaws:
        yield good("each has the right type")


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
