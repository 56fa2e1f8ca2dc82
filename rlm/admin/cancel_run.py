"""The open run ended, as an operator orders it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm.admin.report import find_run, status
from rlm.admin.start_run import ANSWER_SECONDS, POLL_SECONDS
from rlm.core.clock import system_clock
from rlm.core.errors import NoSuchRunError

if TYPE_CHECKING:
    from rlm.core.run import Run
    from rlm.ledger import Store


def open_run(store: Store, prefix: str | None) -> Run:
    """Return the open run. `prefix` begins its id, if it is given.

    Raises:
        NoSuchRunError: no run is open, or another one.
    """
    run, run_id = store.runs.current(), find_run(store, prefix)
    if run is None or run_id not in {None, run.id}:
        raise NoSuchRunError(f"Run {run_id!r} is not open." if run_id else "No run is open; nothing to cancel.")
    return run


def cancel(store: Store, run: Run) -> None:
    """Have a run end now; its conductor closes it."""
    store.runs.cancel(run.id)
    store.processes.wake("scheduler")


def cancelled(store: Store, run: Run) -> dict[str, Any]:
    """Return the record of a run that was cancelled; its status if its calls are still awaited after a while."""
    until = system_clock.monotonic() + ANSWER_SECONDS
    while (record := store.runs.record(run.id)) is None and system_clock.monotonic() < until:
        system_clock.sleep(POLL_SECONDS)
    return record or status(store, run.id)
