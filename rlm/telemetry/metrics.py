"""The page for Prometheus: all metrics, with name, kind, labels and meaning, and their samples.

Everything on it is read from the ledger at that moment, nothing from this process. So every process serves the same
page. It covers all hosts and survives restarts. docs/metrics.md is the table together with usual values.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final, NamedTuple, TypeAlias

from msgspec.structs import asdict
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from rlm import __version__
from rlm.admin.conditions import Scene, conditions, look
from rlm.admin.queue import oldest_in_ledger
from rlm.core.documents import Reasons
from rlm.core.endpoint import all_limited
from rlm.core.errors import StoreError
from rlm.core.run import State
from rlm.ledger.calls import BOUNDS
from rlm.ledger.processes import Role, WorkerState
from rlm.ledger.store import Store
from rlm.ledger.values import MICROSECONDS

#: The content type of the page.
CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
#: The states of an open run.
_OPEN: Final = (State.DRAINING, State.PLANNING, State.RUNNING, State.FINISHING)


class Metric(NamedTuple):
    """A metric. Labels are names of types, endpoints and budgets, or words of RLM, never data of an item."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()


METRICS: Final = (
    Metric(
        "rlm_up", "gauge",
        "1 if Redis answered everything that this page asked; else 0, and then no other value is given.",
    ),
    Metric("rlm_build_info", "gauge", "1; the version of RLM that serves this page.", ("version",)),
    Metric("rlm_condition", "gauge", "1 for each condition of `rlm status`, while it lasts.", ("code", "subject")),
    Metric("rlm_tick_interval_seconds", "gauge", "run.every_seconds of the configuration here."),
    Metric(
        "rlm_last_tick_timestamp_seconds", "gauge",
        "When the scheduler last ticked, by the clock of Redis; 0 before the first.",
    ),
    Metric("rlm_queue_events", "gauge", "Events in the ledger that are not settled, by state.", ("type", "state")),
    Metric(
        "rlm_queue_oldest_seconds", "gauge",
        "How long the oldest pending event has waited; 0 without any.", ("type",),
    ),
    Metric("rlm_audit_list_items", "gauge", "Items on the audit list, which the next run takes."),
    Metric("rlm_dead_letters", "gauge", "Dead letters on their list."),
    Metric("rlm_events_total", "counter", "Events by what became of them, over all runs.", ("type", "outcome")),
    Metric("rlm_invalid_items_total", "counter", "Dead letters written at intake."),
    Metric("rlm_calls_total", "counter", "Calls by how they ended.", ("endpoint", "answer")),
    Metric(
        "rlm_call_duration_seconds", "histogram",
        "From the sending of a completed call to its answer, of finished runs.", ("endpoint",),
    ),
    Metric(
        "rlm_event_answer_seconds", "histogram",
        "Of completed events: from intake to answer, of finished runs.", ("type",),
    ),
    Metric("rlm_run_state", "gauge", "1 for the state that the open run is in, or for idle; else 0.", ("state",)),
    Metric("rlm_run_deadline_timestamp_seconds", "gauge", "The deadline of the open run; 0 if none is open."),
    Metric("rlm_run_target_seconds", "gauge", "run.target of run.window_seconds: runs are planned to be done by then."),
    Metric("rlm_runs_total", "counter", "Closed runs by their state.", ("state",)),
    Metric("rlm_run_duration_seconds", "histogram", "From a run's start to its close."),
    Metric("rlm_last_run_leftovers", "gauge", "Events that the last run left over, by reason.", ("reason",)),
    Metric(
        "rlm_last_run_excess_calls", "gauge",
        "By how many the last run exceeded the limit in force then.", ("endpoint",),
    ),
    Metric("rlm_workers_wanted", "gauge", "Worker processes that the conductor wants, over all hosts."),
    Metric("rlm_workers", "gauge", "Worker processes by state, over all hosts.", ("state",)),
    Metric("rlm_lanes", "gauge", "Lanes of all workers: events they can have in flight."),
    Metric("rlm_lanes_busy", "gauge", "Lanes that carry an event."),
    Metric("rlm_worker_completed_total", "counter", "Events that a living worker has completed.", ("worker",)),
    Metric("rlm_worker_restarts_total", "counter", "Workers that ended unexpectedly."),
)  # fmt: skip

_FAMILIES: Final = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily, "histogram": HistogramMetricFamily}
#: The name of a metric, its value (of a histogram how many are at most each bound, and their sum), and its labels.
_Sample: TypeAlias = tuple[str, float | tuple[list[tuple[str, int]], float], *tuple[str, ...]]


class MetricsPage:
    """Writes the page of one store, one request at a time, so that many clients do not load Redis."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()

    def write(self) -> bytes:
        """Return the page. If Redis does not answer, the page reports only that, and no old numbers."""
        with self._lock:
            try:
                samples: list[_Sample] = [("rlm_up", 1), *_samples(self._store)]
            except StoreError:
                samples = [("rlm_up", 0)]
        families: dict[str, Any] = {
            each.name: _FAMILIES[each.kind](each.name, each.meaning, labels=each.labels) for each in METRICS
        }
        for name, value, *labels in [*samples, ("rlm_build_info", 1, __version__)]:
            families[name].add_metric(labels, *(value if isinstance(value, tuple) else (value,)))
        with_samples = [family for family in families.values() if family.samples]
        return generate_latest(SimpleNamespace(collect=lambda: with_samples))  # stands in for a registry


def _samples(store: Store) -> Iterator[_Sample]:
    """Yield the present state of the ledger; raise StoreError if Redis does not answer."""
    scene = look(store)
    for code, subject in dict.fromkeys((each.code, each.subject) for each in conditions(store, scene)):
        yield "rlm_condition", 1, code, subject
    yield from _queues(store, scene)
    yield from _runs(store, scene)
    yield from _workers(store, scene)
    yield from _totals(store)


def _queues(store: Store, scene: Scene) -> Iterator[_Sample]:
    ledger = scene.books
    oldest = oldest_in_ledger(store, list(ledger.by_type))
    for name, count in ledger.by_type.items():
        if name not in store.settings.types and not count.unsettled:
            continue
        for state, number in asdict(count).items():
            yield "rlm_queue_events", number, name, state
        yield "rlm_queue_oldest_seconds", oldest.get(name, 0.0), name
    yield "rlm_audit_list_items", ledger.events
    yield "rlm_dead_letters", ledger.letters


def _runs(store: Store, scene: Scene) -> Iterator[_Sample]:
    """Yield the samples of the schedule, the open run and the last record; 0 before the first run."""
    settings, run, last, excess = store.settings.run, scene.run, scene.last, scene.there.lease.excess
    yield "rlm_tick_interval_seconds", settings.every_seconds
    yield "rlm_run_target_seconds", settings.target * settings.window_seconds
    yield "rlm_last_tick_timestamp_seconds", scene.there.lease.ticked_at or 0.0
    for state in ("idle", *_OPEN):
        yield "rlm_run_state", int(state == (run.state if run else "idle")), state
    yield "rlm_run_deadline_timestamp_seconds", run.deadline if run else 0.0
    for reason, number in asdict(last.leftover_by_reason if last else Reasons()).items():
        yield "rlm_last_run_leftovers", number, reason
    for limited in all_limited(store.settings.endpoints.values()):
        yield "rlm_last_run_excess_calls", excess.get(limited.name, 0), limited.name


def _workers(store: Store, scene: Scene) -> Iterator[_Sample]:
    workers = scene.there.living(Role.WORKER)
    states = Counter(worker.state for worker in workers)
    yield "rlm_workers_wanted", scene.there.wanted
    for state in WorkerState:
        yield "rlm_workers", states[state], state
    yield "rlm_lanes", sum(worker.threads for worker in workers)
    yield "rlm_lanes_busy", sum(map(len, store.processes.lanes([worker.id for worker in workers])))
    for worker in workers:
        yield "rlm_worker_completed_total", worker.completed, worker.id
    yield "rlm_worker_restarts_total", scene.there.restarts


def _totals(store: Store) -> Iterator[_Sample]:
    """Yield the samples of counters and histograms; all configured types and endpoints have them from the start."""
    types, endpoints, totals = store.settings.types, store.settings.endpoints, store.calls.totals()
    outcomes = {each: each for each in ("taken", "completed", "failed", "leftover")} | {"carried_over": "carried"}
    for name in types:
        for outcome, field in outcomes.items():
            yield "rlm_events_total", totals.get(f"{field}:{name}", 0), name, outcome
    yield "rlm_invalid_items_total", totals.get("invalid", 0)
    for name in endpoints:
        for answer, field in {"completed": "delivered", "throttled": "throttled", "error": "errors"}.items():
            yield "rlm_calls_total", totals.get(f"{field}:{name}", 0), name, answer
    for state in sorted({*State}.difference(_OPEN)):
        yield "rlm_runs_total", totals.get(f"runs:{state}", 0), state
    for metric, what, names in (
        ("rlm_call_duration_seconds", "call", endpoints),
        ("rlm_event_answer_seconds", "answer", types),
        ("rlm_run_duration_seconds", "run", [""]),
    ):
        for name in names:
            at_most = [
                (f"{bound:g}".replace("inf", "+Inf"), totals.get(f"{what}<={bound:g}:{name}", 0)) for bound in BOUNDS
            ]
            seconds = totals.get(f"{what}_us:{name}", 0) / MICROSECONDS
            yield metric, (at_most, seconds), *([name] if name else [])
