"""The end of a run: what is unsettled becomes leftover, the record is written, exactly once, whoever comes first."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from rlm.clock import system_clock
from rlm.run import Called, Run, State, make_record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rlm.endpoint import Endpoint
    from rlm.store import Store

log = logging.getLogger(__name__)


def close_run(store: Store, run_id: str) -> dict[str, Any] | None:
    """Close the run if it is finishing; return its record, or None when it is not open or not finishing.

    The end-of-run actor and the conductor both call this. Closing is one compare-and-set in Redis: the second one
    changes nothing. Nothing can settle any more once all events are pending again, so the counts read are the last.
    """
    while True:
        run = store.runs.current()
        if run is None or run.id != run_id or run.state is not State.FINISHING:
            return None
        types = store.known_types
        if not store.runs.return_unsettled(run_id, types):
            return None
        record = _record(store, run)
        kept = record["plan"]["workers"] if record["counts"]["leftover"] else 0  # the next run will need them again
        wanted = max(store.settings.workers.min, kept)
        closed = store.runs.close(run_id, record, types, history=store.settings.run.history, wanted=wanted)
        if closed:
            store.processes.wake("supervisors")
            store.processes.wake("scheduler")
            log.info("Run %s closed: %s", run_id, _sentence(record), extra={"action": "close_run", "run_id": run_id})
            return record
        if closed is not None:
            return None


def _record(store: Store, run: Run) -> dict[str, Any]:
    tally = store.runs.tally(run.id)
    names = [event_type.name for event_type in store.settings.event_types]
    restarted = store.processes.restarts() - run.restarts_before if run.plan else 0
    called = endpoints_called(store, run, tally)
    return make_record(run, tally, names, called, finished_at=system_clock.now(), restarted=restarted)


def endpoints_called(store: Store, run: Run, tally: Mapping[str, int]) -> dict[str, Called]:
    """Sum up what each configured endpoint did in an open run, whose counts are `tally`."""
    timings = store.runs.timings(run.id)
    limits = store.limits()
    called = {}
    for endpoint in store.settings.endpoints.values():
        answers = {what: tally.get(f"{what}:{endpoint.name}", 0) for what in ("delivered", "throttled", "errors")}
        milliseconds = sorted(timings.get(endpoint.name, []))
        called[endpoint.name] = Called(
            **answers,
            limit=limits.get(endpoint.name, endpoint.limit.text),
            peak=_peak(store, run, endpoint) if any(answers.values()) else 0,
            p50_ms=quantile(milliseconds, 0.50),
            p95_ms=quantile(milliseconds, 0.95),
        )
    return called


def _peak(store: Store, run: Run, endpoint: Endpoint) -> int:
    """Count the most slots of a run within one period of the endpoint's first rule."""
    began_us = run.deadline_us - round(run.window_seconds * 1_000_000)
    rule = endpoint.limit.rules[0]
    number = rule.amount * (2 + math.ceil(run.window_seconds / rule.seconds))
    stamps = [stamp for stamp in store.windows.stamps(endpoint, number) if stamp >= began_us]
    return most_in_any(sorted(stamps), round(rule.seconds * 1_000_000))


def most_in_any(stamps: Sequence[int], span: int) -> int:
    """Return the most of the ascending `stamps` that lie within any half-open interval of length `span`."""
    most, first = 0, 0
    for last, stamp in enumerate(stamps):
        while stamp - stamps[first] >= span:
            first += 1
        most = max(most, last - first + 1)
    return most


def quantile(ascending: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the ascending values lie (nearest rank), 0 without any."""
    return round(ascending[math.ceil(share * len(ascending)) - 1], 1) if ascending else 0


def _sentence(record: Mapping[str, Any]) -> str:
    counts = record["counts"]
    parts = [f"{record['state']} after {record['duration_seconds']:.1f} s"]
    parts += [
        f"{counts[key]} {key}" for key in ("completed", "failed", "leftover") if counts[key] or key == "completed"
    ]
    return ", ".join(parts)
