"""The runs: matching ones page by page; one over time; the open one cancelled."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from msgspec import to_builtins

from rlm.admin.endpoints import changes_made
from rlm.admin.report import find_run, status
from rlm.admin.start_run import ANSWER_SECONDS, POLL_SECONDS
from rlm.core.clock import system_clock, timestamp
from rlm.core.documents import plain
from rlm.core.errors import NoSuchRunError
from rlm.core.run import Run
from rlm.ledger import Store
from rlm.ledger.control import MOST_CHANGES
from rlm.ledger.values import MICROSECONDS

#: Keys of a record that a list shows.
_LISTED = ("run_id", "state", "started_at", "duration_seconds", "counts")
#: Records to read at a time.
_PAGE = 100


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Criteria for finished runs: a run must match each given criterion; of several values, one is enough.

    `since` is in seconds since 1970.
    """

    states: Collection[str] = ()
    since: float | None = None

    def fits(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record matches."""
        return (not self.states or record["state"] in self.states) and (
            self.since is None or timestamp(record["started_at"]) >= self.since
        )


def entry_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `rlm list --json` prints of a run."""
    return {key: record[key] for key in _LISTED}


def runs_page(store: Store, wanted: RunFilter, number: int, before: str = "") -> dict[str, Any]:
    """Return the newest `number` matching records before the id `before`, and the `next` id to continue, if any."""
    fitting = (one for one in _records(store, before) if wanted.fits(one))
    found = list(islice(fitting, number + 1))
    return {"runs": found[:number], "next": found[number - 1]["run_id"] if len(found) > number else None}


def _records(store: Store, before: str) -> Iterator[dict[str, Any]]:
    """Yield the records, newest first, a page at a time. The ids sort by time."""
    ids = [one for one in store.runs.history(store.runs.count()) if not before or one < before]
    for start in range(0, len(ids), _PAGE):
        yield from map(plain, store.runs.records(ids[start : start + _PAGE]))


def course(store: Store, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the course of a run over time; `found` is its record, or its status while it is open.

    Times are in seconds from its start. `calls` are the times of the calls by endpoint, from the log of calls;
    `missing` counts those no longer in it. `changes` are the changes that operators made to endpoints and budgets.
    `workers` are the start times of living workers, known for an open run only.
    """
    began = timestamp(found["started_at"])
    ended = timestamp(found.get("finished_at") or found["as_of"]) + 0.001  # it is truncated to milliseconds
    called = {name: one["calls"] for name, one in found["by_endpoint"].items() if one["calls"]}
    calls: dict[str, list[float]] = {name: [] for name in called}
    for call in sorted(store.calls.of_run(found["run_id"], ended + 1.0), key=lambda call: call.sent_us):
        if call.endpoint in calls:
            calls[call.endpoint].append(round(call.sent_us / MICROSECONDS - began, 3))
    return {
        "calls": calls,
        "missing": {name: number - len(calls[name]) for name, number in called.items() if number > len(calls[name])},
        "changes": [
            {"at_seconds": round(at - began, 3), **to_builtins(change)}
            for change in reversed(changes_made(store, MOST_CHANGES))
            if began <= (at := timestamp(change.at)) <= ended
        ],
        "workers": [
            {"at_seconds": round(timestamp(one["started_at"]) - began, 3), "pid": one["pid"], "host": one["host"]}
            for one in found["workers"].get("each", ())
        ],
    }


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


def cancelled(store: Store, run: Run) -> dict[str, Any]:
    """Return the record of a cancelled run; its status if it is still waiting for calls after a while."""
    until = system_clock.monotonic() + ANSWER_SECONDS
    while (record := store.runs.record(run.id)) is None and system_clock.monotonic() < until:
        system_clock.sleep(POLL_SECONDS)
    return plain(record or status(store, run.id))
