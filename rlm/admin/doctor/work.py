"""The open run, a drain that was cut short, and whether every event is accounted for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm.admin.doctor.findings import fault, good, warning
from rlm.core import tally
from rlm.core.text import span
from rlm.ledger.outage import LASTING_SECONDS
from rlm.ledger.reading.books import books, miscounted
from rlm.plan.cause import verdict, went_wrong

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rlm.ledger import Store
    from rlm.ledger.fitness import Finding

#: A run closes within a second of its deadline; one still open after this many is nobody's, seconds.
OVERDUE_SECONDS = 5.0


def check_run(store: Store) -> Iterator[Finding]:
    """Tell whether a run is open, and whether it should have been closed."""
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
    """Return what is to be said of the last run: that it failed, or why it left events over."""
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
    """Tell whether items lie in staging with no run open that takes them."""
    found = books(store)
    if found.run_id is not None:
        yield good("staging", f"{found.staged} items, a run is open")
    elif not found.staged:
        yield good("staging", "empty")
    else:
        message = f"{found.staged} items are in staging from a drain that was cut short"
        yield warning("staging", message, "nothing is lost: the next run takes them first; `rlm start` starts one")


def check_books(store: Store) -> Iterator[Finding]:
    """Tell whether every event is accounted for."""
    newest = store.runs.recent(1)
    found = books(store)
    faults = [*found.faults, *(one for record in newest for one in miscounted(store, found, record))]
    remedy = "this is a fault of RLM: keep a copy of the data of Redis and its logs, and report it"
    if not faults:
        yield good("books", f"they balance: {found.unsettled} events unsettled in the ledger")
    for one in faults:
        yield fault("books", one, remedy)
