"""All metrics: name, kind, labels, meaning; and the samples of the cumulative ones.

docs/metrics.md is this table together with usual values.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import StrEnum
from functools import partial
from typing import Final, NamedTuple

from rlm.core.run import MOVES, State
from rlm.core.tally import BOUNDS, Histogram, histograms
from rlm.settings import Settings

#: How an event may enter or leave a run, and its name in a tally.
OUTCOMES: Final = {
    "taken": "taken",
    "carried_over": "carried",
    "completed": "completed",
    "failed": "failed",
    "leftover": "leftover",
}
#: How a call may be answered, and its name in a tally.
ANSWERS: Final = {"completed": "delivered", "throttled": "throttled", "error": "errors"}


class MetricKind(StrEnum):
    """The Prometheus types of metrics."""

    GAUGE = "gauge"
    COUNTER = "counter"  #: it only grows, unless Redis loses data
    HISTOGRAM = "histogram"


class Metric(NamedTuple):
    """A metric. Labels are names of types, endpoints and budgets, or words of RLM, never data of an item."""

    name: str
    kind: MetricKind
    labels: tuple[str, ...]
    meaning: str


def _metric(kind: MetricKind, name: str, meaning: str, *labels: str) -> Metric:
    return Metric(name, kind, labels, meaning)


_gauge, _counter, _histogram = (partial(_metric, kind) for kind in MetricKind)

METRICS: Final = (
    # How it is
    _gauge("rlm_up", "1 if Redis answered everything that this page asked; else 0, and then no other value is given."),
    _gauge("rlm_build_info", "1; the version of RLM that serves this page.", "version"),
    _gauge("rlm_condition", "1 for each condition of `rlm status`, while it lasts.", "code", "subject"),
    _gauge("rlm_tick_interval_seconds", "run.every_seconds of the configuration here."),
    _gauge(
        "rlm_last_tick_timestamp_seconds", "When the scheduler last ticked, by the clock of Redis; 0 before the first."
    ),
    # What waits
    _gauge("rlm_queue_events", "Events in the ledger that are not settled, by state.", "type", "state"),
    _gauge("rlm_queue_oldest_seconds", "How long the oldest pending event has waited; 0 without any.", "type"),
    _gauge("rlm_audit_list_items", "Items on the audit list, which the next run takes."),
    _gauge("rlm_dead_letters", "Dead letters on their list."),
    # What was done
    _counter("rlm_events_total", "Events by what became of them, over all runs.", "type", "outcome"),
    _counter("rlm_invalid_items_total", "Dead letters written at intake."),
    _counter("rlm_calls_total", "Calls by how they ended.", "endpoint", "answer"),
    _histogram(
        "rlm_call_duration_seconds", "From the sending of a completed call to its answer, of finished runs.", "endpoint"
    ),
    _histogram("rlm_event_answer_seconds", "Of completed events: from intake to answer, of finished runs.", "type"),
    # Runs
    _gauge("rlm_run_state", "1 for the state that the open run is in, or for idle; else 0.", "state"),
    _gauge("rlm_run_deadline_timestamp_seconds", "The deadline of the open run; 0 if none is open."),
    _gauge("rlm_run_target_seconds", "run.target of run.window_seconds: runs are planned to be done by then."),
    _counter("rlm_runs_total", "Closed runs by their state.", "state"),
    _histogram("rlm_run_duration_seconds", "From a run's start to its close."),
    _gauge("rlm_last_run_leftovers", "Events that the last run left over, by reason.", "reason"),
    _gauge("rlm_last_run_excess_calls", "By how many the last run exceeded the limit in force then.", "endpoint"),
    # Workers
    _gauge("rlm_workers_wanted", "Worker processes that the conductor wants, over all hosts."),
    _gauge("rlm_workers", "Worker processes by state, over all hosts.", "state"),
    _gauge("rlm_lanes", "Lanes of all workers: events they can have in flight."),
    _gauge("rlm_lanes_busy", "Lanes that carry an event."),
    _counter("rlm_worker_restarts_total", "Workers that ended unexpectedly."),
)


class Sample(NamedTuple):
    """One line of a metric; `suffix` is added to the metric's name (`_bucket`)."""

    name: str
    labels: Mapping[str, str]
    value: float
    suffix: str = ""


def counters(settings: Settings, totals: Mapping[str, int]) -> Iterator[Sample]:
    """Yield the samples of counters and histograms; all configured types and endpoints have them from the start."""
    types = _names([one.name for one in settings.event_types], totals, OUTCOMES.values())
    endpoints = _names(settings.endpoints, totals, ANSWERS.values())
    for name in types:
        for outcome, field in OUTCOMES.items():
            yield Sample("rlm_events_total", {"type": name, "outcome": outcome}, totals.get(f"{field}:{name}", 0))
    yield Sample("rlm_invalid_items_total", {}, totals.get("invalid", 0))
    for name in endpoints:
        for answer, field in ANSWERS.items():
            yield Sample("rlm_calls_total", {"endpoint": name, "answer": answer}, totals.get(f"{field}:{name}", 0))
    for state in sorted(MOVES[State.FINISHING]):
        yield Sample("rlm_runs_total", {"state": state}, totals.get(f"runs:{state}", 0))
    for metric, what, label, names in (
        ("rlm_call_duration_seconds", "call", "endpoint", endpoints),
        ("rlm_event_answer_seconds", "answer", "type", types),
        ("rlm_run_duration_seconds", "run", "", [""]),
    ):
        found = histograms(totals, what)
        empty = Histogram(dict.fromkeys((*BOUNDS[what], math.inf), 0), 0.0)
        for name in names:
            yield from _histogram_samples(metric, {label: name} if label else {}, found.get(name, empty))


def _names(configured: Iterable[str], totals: Mapping[str, int], fields: Collection[str]) -> list[str]:
    """Return the configured names, then formerly configured ones that have a count."""
    counted = (field.partition(":") for field, number in totals.items() if number)
    others = {name for field, colon, name in counted if colon and field in fields}
    return [*configured, *sorted(others.difference(configured))]


def _histogram_samples(metric: str, labels: Mapping[str, str], found: Histogram) -> Iterator[Sample]:
    for bound, number in found.at_most.items():
        yield Sample(metric, {**labels, "le": "+Inf" if bound == math.inf else f"{bound:g}"}, number, "_bucket")
    yield Sample(metric, labels, found.number, "_count")
    yield Sample(metric, labels, found.seconds, "_sum")
