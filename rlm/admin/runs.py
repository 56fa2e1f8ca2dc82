"""The runs: page by page; one over time; the open one cancelled."""

from __future__ import annotations

from typing import NamedTuple

from rlm.admin.endpoints import changes_made
from rlm.admin.report import find_run, status_of
from rlm.admin.start_run import ANSWER_SECONDS, POLL_SECONDS
from rlm.core.clock import system_clock, timestamp
from rlm.core.documents import Record, RunCourse, RunListed, RunStatus
from rlm.core.errors import NoSuchRunError
from rlm.core.run import Run
from rlm.ledger.rules import MOST_CHANGES
from rlm.ledger.store import Store
from rlm.ledger.values import MICROSECONDS


def entry_of(record: Record) -> RunListed:
    """Return what `rlm list --json` prints of a run."""
    return RunListed(**{name: getattr(record, name) for name in RunListed.__struct_fields__})


class RunPage(NamedTuple):
    """Some records, and the id before which the list goes on, None at its end."""

    records: list[Record]
    next: str | None


def runs_page(store: Store, number: int, before: str = "") -> RunPage:
    """Return the newest `number` records before the id `before`; ids sort by time."""
    ids = [run_id for run_id in store.runs.history() if not before or run_id < before]
    return RunPage([*store.runs.records(ids[:number])], ids[number - 1] if len(ids) > number else None)


def course(store: Store, run: Record | RunStatus) -> RunCourse:
    """Return a finished or an open run over time."""
    began = timestamp(run.started_at)
    ended = timestamp(run.as_of if isinstance(run, RunStatus) else run.finished_at) + 0.001  # it is truncated
    calls = sorted(
        round(call.sent_us / MICROSECONDS - began, 3) for call in store.calls.of_run(run.run_id, ended + 1.0)
    )
    changes = tuple(
        (round(at - began, 3), change)
        for change in reversed(changes_made(store, MOST_CHANGES))
        if began <= (at := timestamp(change.at)) <= ended
    )
    missing = max(0, sum(entry.calls for entry in run.by_endpoint.values()) - len(calls))
    return RunCourse(calls=tuple(calls), missing=missing, changes=changes)


def open_run(store: Store, prefix: str | None) -> Run:
    """Return the open run; raise a NoSuchRunError if there is none, or `prefix` does not begin its id."""
    run, run_id = store.runs.current(), find_run(store, prefix)
    if run is None or run_id not in {None, run.id}:
        raise NoSuchRunError(f"Run {run_id!r} is not open." if run_id else "No run is open; nothing to cancel.")
    return run


def cancel(store: Store, run: Run) -> None:
    """Cancel a run, so that it ends now; its conductor closes it."""
    store.runs.cancel(run.id)
    store.processes.wake("scheduler")


def cancelled(store: Store, run: Run) -> Record | RunStatus:
    """Return the record of a cancelled run; its status if it is still waiting for calls after a while."""
    until = system_clock.monotonic() + ANSWER_SECONDS
    while (record := store.runs.record(run.id)) is None and system_clock.monotonic() < until:
        system_clock.sleep(POLL_SECONDS)
    return record or status_of(store, run.id)
