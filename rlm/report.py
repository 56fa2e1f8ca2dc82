"""What a run looks like from outside: its status while it is open, in the words and keys of its record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm.archive import Archive, Kind
from rlm.circuit import circuit_of
from rlm.clock import isoformat, system_clock
from rlm.closing import record_so_far
from rlm.endpoint import all_limited
from rlm.errors import NoSuchRunError
from rlm.store.processes import Role

if TYPE_CHECKING:
    from rlm.run import Run
    from rlm.store import Store


def status(store: Store, run_id: str | None) -> dict[str, Any]:
    """Return the status of the open run, or of the run named, or that there is none open.

    Raises:
        NoSuchRunError: no run of that id is open or on record.
    """
    run = store.runs.current()
    if run is not None and run_id in {None, run.id}:
        return open_status(store, run)
    if run_id is not None:
        return record(store, run_id)
    newest = store.runs.history(1)
    last_tick = store.runs.last_tick()
    return {
        "state": "idle",
        "last": newest[0] if newest else None,
        "last_tick": None if last_tick is None else isoformat(last_tick),
    }


def open_status(store: Store, run: Run) -> dict[str, Any]:
    """Return an open run in the keys of its record as far as they are known, with `seconds_left`."""
    now = system_clock.now()
    known = record_so_far(store, run, store.runs.tally(run.id))
    counts = store.ledger.count(store.known_types)
    for name, entry in known["by_type"].items():
        if name in counts:
            entry["inflight"] = counts[name].inflight
            entry["released"] = counts[name].released
    _, views = store.windows.look(all_limited(store.settings.endpoints.values()))
    for name, view in views.items():
        by = "by_endpoint" if name in known["by_endpoint"] else "by_budget"
        known[by][name]["circuit"] = circuit_of(view)
    del known["finished_at"]
    workers = [one.state for one in store.processes.alive(Role.WORKER)]
    known["workers"] |= {"now": len(workers), "ready": workers.count("ready"), "wanted": store.processes.wanted()}
    forecast = {"forecast": dict(run.forecast)} if run.forecast else {}
    return {**known, **forecast, "state": run.state, "seconds_left": round(max(0.0, run.deadline - now), 3)}


def record(store: Store, run_id: str | None) -> dict[str, Any]:
    """Return the record of the run named, or of the last one that finished.

    Raises:
        NoSuchRunError: it is unknown or not finished, or none has finished yet.
    """
    if run_id is None:
        newest = store.runs.history(1)
        if not newest:
            raise NoSuchRunError("No run has finished yet. Start one with `rlm start --wait`.")
        run_id = newest[0]
    found = store.runs.record(run_id)
    if found is None:
        run = store.runs.current()
        if run is not None and run.id == run_id:
            raise NoSuchRunError(f"Run {run_id!r} has not finished; see `rlm status`.")
        older = Archive(store.settings.archive_dir).hint(Kind.RECORDS)
        raise NoSuchRunError(f"No run {run_id!r} is known. `rlm list` names the recent ones.{older}")
    return found
