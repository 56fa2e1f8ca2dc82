"""The page for Prometheus: all metrics, with name, kind, labels and meaning, and their samples.

Everything on it is read from the ledger at that moment, nothing from this process. So every process serves the same
page. It covers all hosts and survives restarts. docs/metrics.md is the table together with usual values.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Final, NamedTuple

from msgspec.structs import asdict
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.core import Metric as Family

from rlm import __version__
from rlm.admin.conditions import conditions, look
from rlm.core.documents import Reasons
from rlm.core.endpoint import all_limited
from rlm.core.errors import StoreError
from rlm.core.run import OPEN, State
from rlm.ledger.books import books
from rlm.ledger.calls import BOUNDS, Histogram, histograms
from rlm.ledger.processes import Role, WorkerState
from rlm.ledger.store import Store
from rlm.ledger.waiting import oldest_in_ledger
from rlm.settings import Settings

#: The content type of the page.
CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
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

log = logging.getLogger(__name__)


class Metric(NamedTuple):
    """A metric. Labels are names of types, endpoints and budgets, or words of RLM, never data of an item."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


def _metric(kind: str, name: str, meaning: str, *labels: str) -> Metric:
    return Metric(name, kind, labels, meaning)


_gauge, _counter, _histogram = (partial(_metric, kind) for kind in ("gauge", "counter", "histogram"))

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


class MetricsPage:
    """Writes the page of one store, one request at a time, so that many clients do not load Redis."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._away = False

    def write(self) -> bytes:
        """Return the page. If Redis does not answer, the page reports only that, and no old numbers."""
        with self._lock:
            try:
                samples = [Sample("rlm_up", {}, 1), *self.look()]
            except StoreError as error:
                if not self._away:
                    log.warning("The metrics cannot be read: %s", error, extra={"action": "metrics"})
                self._away = True
                samples = [Sample("rlm_up", {}, 0)]
            else:
                if self._away:
                    log.info("The metrics can be read again", extra={"action": "metrics"})
                self._away = False
        build = Sample("rlm_build_info", {"version": __version__}, 1)
        return expose([build, *samples])

    def look(self) -> Iterator[Sample]:
        """Yield the present state of the ledger; raise StoreError if Redis does not answer."""
        store = self._store
        for part in (_conditions, _schedule, _queues, _open_run, _last_run, _workers):
            yield from part(store)
        yield from counters(store.settings, store.totals.look())


def _last_run(store: Store) -> Iterator[Sample]:
    """Yield the samples of the last record; 0 before the first run."""
    record, excess = next(iter(store.runs.recent(1)), None), store.leases.excess()
    for reason, number in asdict(record.leftover_by_reason if record else Reasons()).items():
        yield Sample("rlm_last_run_leftovers", {"reason": reason}, number)
    for limited in all_limited(store.settings.endpoints.values()):
        yield Sample("rlm_last_run_excess_calls", {"endpoint": limited.name}, excess.get(limited.name, 0))


def _conditions(store: Store) -> Iterator[Sample]:
    for code, subject in dict.fromkeys((each.code, each.subject) for each in conditions(store, look(store))):
        yield Sample("rlm_condition", {"code": code, "subject": subject}, 1)


def _schedule(store: Store) -> Iterator[Sample]:
    run = store.settings.run
    yield Sample("rlm_tick_interval_seconds", {}, run.every_seconds)
    yield Sample("rlm_run_target_seconds", {}, run.target * run.window_seconds)
    yield Sample("rlm_last_tick_timestamp_seconds", {}, store.schedule.last_tick() or 0.0)


def _queues(store: Store) -> Iterator[Sample]:
    ledger = books(store)
    oldest, configured = oldest_in_ledger(store, list(ledger.by_type)), store.settings.types
    for name, account in ledger.by_type.items():
        if name not in configured and not account.unsettled:
            continue
        for state in ("pending", "inflight", "backoff", "spent"):
            yield Sample("rlm_queue_events", {"type": name, "state": state}, getattr(account.counts, state))
        since = oldest.get(name)
        yield Sample("rlm_queue_oldest_seconds", {"type": name}, max(0.0, ledger.now - since) if since else 0.0)
    yield Sample("rlm_audit_list_items", {}, ledger.events)
    yield Sample("rlm_dead_letters", {}, ledger.letters)


def _open_run(store: Store) -> Iterator[Sample]:
    run = store.runs.current()
    now = run.state if run else "idle"
    for state in ("idle", *OPEN):
        yield Sample("rlm_run_state", {"state": state}, int(state == now))
    yield Sample("rlm_run_deadline_timestamp_seconds", {}, run.deadline if run else 0.0)


def _workers(store: Store) -> Iterator[Sample]:
    workers = store.processes.alive(Role.WORKER)
    states = Counter(worker.state for worker in workers)
    yield Sample("rlm_workers_wanted", {}, store.processes.wanted())
    for state in WorkerState:
        yield Sample("rlm_workers", {"state": state}, states[state])
    yield Sample("rlm_lanes", {}, sum(worker.threads for worker in workers))
    yield Sample("rlm_lanes_busy", {}, sum(map(len, store.processes.lanes([worker.id for worker in workers]))))
    yield Sample("rlm_worker_restarts_total", {}, store.processes.restarts())


def counters(settings: Settings, totals: Mapping[str, int]) -> Iterator[Sample]:
    """Yield the samples of counters and histograms; all configured types and endpoints have them from the start."""
    types, endpoints = settings.types, settings.endpoints
    for name in types:
        for outcome, field in OUTCOMES.items():
            yield Sample("rlm_events_total", {"type": name, "outcome": outcome}, totals.get(f"{field}:{name}", 0))
    yield Sample("rlm_invalid_items_total", {}, totals.get("invalid", 0))
    for name in endpoints:
        for answer, field in ANSWERS.items():
            yield Sample("rlm_calls_total", {"endpoint": name, "answer": answer}, totals.get(f"{field}:{name}", 0))
    for state in sorted({*State} - {*OPEN}):
        yield Sample("rlm_runs_total", {"state": state}, totals.get(f"runs:{state}", 0))
    for metric, what, label, names in (
        ("rlm_call_duration_seconds", "call", "endpoint", endpoints),
        ("rlm_event_answer_seconds", "answer", "type", types),
        ("rlm_run_duration_seconds", "run", "", [""]),
    ):
        by_name = histograms(totals, what)
        empty = Histogram(dict.fromkeys((*BOUNDS[what], math.inf), 0), 0.0)
        for name in names:
            yield from _histogram_samples(metric, {label: name} if label else {}, by_name.get(name, empty))


def _histogram_samples(metric: str, labels: Mapping[str, str], histogram: Histogram) -> Iterator[Sample]:
    for bound, number in histogram.at_most.items():
        yield Sample(metric, {**labels, "le": "+Inf" if bound == math.inf else f"{bound:g}"}, number, "_bucket")
    yield Sample(metric, labels, histogram.at_most[math.inf], "_count")
    yield Sample(metric, labels, histogram.seconds, "_sum")


def expose(samples: Iterable[Sample]) -> bytes:
    """Return samples in the text format, in the order of `METRICS`, which must contain them all."""
    families = {name: Family(name.removesuffix("_total"), meaning, kind) for name, kind, _, meaning in METRICS}
    for name, labels, value, suffix in samples:
        families[name].add_sample(name + suffix, dict(labels), value)
    with_samples = [family for family in families.values() if family.samples]
    return generate_latest(SimpleNamespace(collect=lambda: with_samples))  # stands in for a registry
