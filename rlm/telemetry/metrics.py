"""The page for Prometheus. Everything on it is read from the ledger at that moment, nothing from this process.

So every process serves the same page. It covers all hosts and survives restarts.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Final

from msgspec.structs import asdict
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.core import Metric as Family

from rlm import __version__
from rlm.admin.conditions import conditions, look
from rlm.admin.report import IDLE
from rlm.core.documents import Reasons
from rlm.core.endpoint import all_limited
from rlm.core.errors import StoreError
from rlm.core.run import MOVES, State
from rlm.ledger.processes import Role, WorkerState
from rlm.ledger.reading.books import books
from rlm.ledger.reading.waiting import oldest_in_ledger
from rlm.ledger.store import Store
from rlm.telemetry.catalogue import METRICS, Sample, counters

#: The content type of the page.
CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

log = logging.getLogger(__name__)


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
    record, excess = next(iter(store.runs.recent(1)), None), store.notes.excess()
    for reason, number in asdict(record.leftover_by_reason if record else Reasons()).items():
        yield Sample("rlm_last_run_leftovers", {"reason": reason}, number)
    for limited in all_limited(store.settings.endpoints.values()):
        yield Sample("rlm_last_run_excess_calls", {"endpoint": limited.name}, excess.get(limited.name, 0))


def _conditions(store: Store) -> Iterator[Sample]:
    found = conditions(store, look(store))
    for code, subject in dict.fromkeys((condition.code, condition.subject) for condition in found):
        yield Sample("rlm_condition", {"code": code, "subject": subject}, 1)


def _schedule(store: Store) -> Iterator[Sample]:
    run = store.settings.run
    yield Sample("rlm_tick_interval_seconds", {}, run.every_seconds)
    yield Sample("rlm_run_target_seconds", {}, run.target * run.window_seconds)
    yield Sample("rlm_last_tick_timestamp_seconds", {}, store.schedule.last_tick() or 0.0)


def _queues(store: Store) -> Iterator[Sample]:
    found = books(store)
    oldest, configured = oldest_in_ledger(store, list(found.by_type)), store.settings.types
    for name, account in found.by_type.items():
        if name not in configured and not account.unsettled:
            continue
        for state in ("pending", "inflight", "backoff", "spent"):
            yield Sample("rlm_queue_events", {"type": name, "state": state}, getattr(account.counts, state))
        since = oldest.get(name)
        yield Sample("rlm_queue_oldest_seconds", {"type": name}, max(0.0, found.now - since) if since else 0.0)
    yield Sample("rlm_audit_list_items", {}, found.events)
    yield Sample("rlm_dead_letters", {}, found.letters)


def _open_run(store: Store) -> Iterator[Sample]:
    run = store.runs.current()
    now = run.state if run else IDLE
    for state in (IDLE, *(one for one in State if one in MOVES)):
        yield Sample("rlm_run_state", {"state": state}, int(state == now))
    yield Sample("rlm_run_deadline_timestamp_seconds", {}, run.deadline if run else 0.0)


def _workers(store: Store) -> Iterator[Sample]:
    workers = store.processes.alive(Role.WORKER)
    states = Counter(one.state for one in workers)
    yield Sample("rlm_workers_wanted", {}, store.processes.wanted())
    for state in WorkerState:
        yield Sample("rlm_workers", {"state": state}, states[state])
    yield Sample("rlm_lanes", {}, sum(one.threads for one in workers))
    yield Sample("rlm_lanes_busy", {}, sum(map(len, store.processes.lanes([one.id for one in workers]))))
    yield Sample("rlm_worker_restarts_total", {}, store.processes.restarts())


def expose(samples: Iterable[Sample]) -> bytes:
    """Return samples in the text format, in the order of the catalogue, which must contain them all."""
    families = {
        metric.name: Family(metric.name.removesuffix("_total"), metric.meaning, metric.kind) for metric in METRICS
    }
    for name, labels, value, suffix in samples:
        families[name].add_sample(name + suffix, dict(labels), value)
    with_samples = [family for family in families.values() if family.samples]
    return generate_latest(SimpleNamespace(collect=lambda: with_samples))  # stands in for a registry
