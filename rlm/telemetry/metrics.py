"""The page for Prometheus. Everything on it is read from the ledger at that moment, nothing from this process.

So every process serves the same page. It covers all hosts and survives restarts.
"""

from __future__ import annotations

import logging
import platform
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Final

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.core import Metric as Family

from rlm import __version__
from rlm.admin.hosts import HostState, hosts
from rlm.admin.report import IDLE
from rlm.core.clock import system_clock, timestamp
from rlm.core.documents import CallCounts, TypeCounts
from rlm.core.endpoint import Endpoint, all_limited
from rlm.core.errors import StoreError
from rlm.core.run import MOVES, State
from rlm.core.tally import forecast_error
from rlm.core.window import Circuit, circuit_of
from rlm.ledger import Store
from rlm.ledger.processes import Role, WorkerState
from rlm.ledger.reading.backlog import oldest_listed, oldest_pending
from rlm.ledger.reading.books import books
from rlm.ledger.reading.compliance import excess_of
from rlm.ledger.trouble import revive
from rlm.telemetry.catalogue import METRICS, OUTCOMES, Sample, counters

#: The content type of the page.
CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

log = logging.getLogger(__name__)


class MetricsPage:
    """Writes the page of one store, one request at a time, so that many clients do not load Redis."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._away = False
        #: The id of the last judged run, and by how much it exceeded each limit.
        self._judged: tuple[str, Mapping[str, int]] = ("", {})

    def write(self) -> bytes:
        """Return the page. If Redis does not answer, the page reports only that, and no old numbers."""
        with self._lock:
            try:
                samples = [Sample("rlm_up", {}, 1), *self.look()]
            except StoreError as error:
                if not self._away:
                    log.warning("The metrics cannot be read: %s", error, extra={"action": "metrics"})
                self._away = True
                revive(self._store)
                samples = [Sample("rlm_up", {}, 0)]
            else:
                if self._away:
                    log.info("The metrics can be read again", extra={"action": "metrics"})
                self._away = False
        build = Sample("rlm_build_info", {"version": __version__, "python": platform.python_version()}, 1)
        return expose([build, *samples])

    def look(self) -> Iterator[Sample]:
        """Yield the present state of the ledger; raise StoreError if Redis does not answer."""
        began_at, store = system_clock.monotonic(), self._store
        store.ping()
        yield Sample("rlm_redis_ping_seconds", {}, system_clock.monotonic() - began_at)
        for part in (_schedule, _queues, _limits, _open_run, self._last_run, _workers):
            yield from part(store)
        yield from counters(store.settings, store.totals.look())
        yield Sample("rlm_collect_seconds", {}, system_clock.monotonic() - began_at)

    def _last_run(self, store: Store) -> Iterator[Sample]:
        """Yield the samples of the last record; 0 before the first run and for missing values."""
        newest = store.runs.history(1)
        record = store.runs.record(newest[0]) if newest else None
        yield Sample("rlm_last_run_timestamp_seconds", {}, timestamp(record.finished_at) if record else 0.0)
        yield Sample("rlm_last_run_duration_seconds", {}, record.duration_seconds if record else 0.0)
        yield Sample("rlm_last_run_forecast_error_seconds", {}, (record and forecast_error(record)) or 0.0)
        by_type = record.by_type if record else {}
        others = sorted(set(by_type) - set(store.settings.types))
        for name in (*(kind.name for kind in store.settings.event_types), *others):
            counts = by_type.get(name, TypeCounts())
            for outcome in OUTCOMES:
                yield Sample("rlm_last_run_events", {"type": name, "outcome": outcome}, getattr(counts, outcome))
        if record and self._judged[0] != newest[0]:
            self._judged = newest[0], excess_of(store, record)
        called = {**record.by_endpoint, **record.by_budget} if record else {}
        exceeded = self._judged[1] if record else {}
        for limited in all_limited(store.settings.endpoints.values()):
            peak = called.get(limited.name, CallCounts()).peak_in_window
            yield Sample("rlm_last_run_peak_calls", {"endpoint": limited.name}, peak)
            yield Sample("rlm_last_run_excess_calls", {"endpoint": limited.name}, exceeded.get(limited.name, 0))


def _schedule(store: Store) -> Iterator[Sample]:
    yield Sample("rlm_tick_interval_seconds", {}, store.settings.run.every_seconds)
    yield Sample("rlm_window_seconds", {}, store.settings.run.window_seconds)
    yield Sample("rlm_last_tick_timestamp_seconds", {}, store.schedule.last_tick() or 0.0)
    for role in (Role.SCHEDULER, Role.SUPERVISOR):
        alive = store.processes.alive(role)
        other = sum(one.revision != store.settings.revision for one in alive)
        yield Sample("rlm_processes", {"role": role}, len(alive))
        yield Sample("rlm_other_configuration", {"role": role}, other)
    found = hosts(store)
    for state in HostState:
        yield Sample("rlm_hosts", {"state": state}, sum(one["state"] == state for one in found))
    for one in found:
        yield Sample("rlm_host_state", {"host": one["host"], "state": one["state"]}, 1)
        if one["heard_seconds"] is not None:
            yield Sample("rlm_host_heard_seconds", {"host": one["host"]}, one["heard_seconds"])
    tenure = store.leases.tenure()
    left_seconds = max(0.0, tenure.left_seconds) if tenure else 0.0
    yield Sample("rlm_lease_held", {}, int(left_seconds > 0))
    yield Sample("rlm_lease_remaining_seconds", {}, left_seconds)
    yield Sample("rlm_lease_token", {}, store.leases.token())


def _queues(store: Store) -> Iterator[Sample]:
    found = books(store)
    oldest, listed = oldest_pending(store, list(found.by_type)), oldest_listed(store)
    configured = store.settings.types
    for name, account in found.by_type.items():
        if name not in configured and not account.unsettled + account.retried:
            continue
        for state in ("pending", "released", "inflight", "backoff", "spent"):
            yield Sample("rlm_queue_events", {"type": name, "state": state}, getattr(account.counts, state))
        yield Sample("rlm_queue_events", {"type": name, "state": "retried"}, account.retried)
        yield Sample("rlm_queue_oldest_seconds", {"type": name}, _age(found.now, oldest.get(name)))
    yield Sample("rlm_audit_list_items", {}, found.events)
    yield Sample("rlm_audit_list_oldest_seconds", {}, _age(found.now, listed))
    yield Sample("rlm_staging_items", {}, found.staged)
    yield Sample("rlm_dead_letters", {}, found.letters)


def _age(now: float, since: float | None) -> float:
    return 0.0 if since is None else max(0.0, now - since)


def _limits(store: Store) -> Iterator[Sample]:
    limited = all_limited(store.endpoints().values())
    used, (now_us, views) = store.windows.used(limited), store.windows.look(limited)
    views = store.hosts.shade(views, limited, now_us)
    for one in limited:
        rules = sorted(zip(one.limit.rules, used[one.name], strict=True), key=lambda pair: -pair[0].amount)
        # A series must not appear twice, so the strictest of several rules with one period counts.
        by_period = {f"{rule.seconds:g}": (rule.amount, number) for rule, number in rules}
        for period, (amount, number) in by_period.items():
            labels = {"endpoint": one.name, "period": period}
            yield Sample("rlm_limit_calls", labels, amount)
            yield Sample("rlm_limit_used_calls", labels, number)
        yield Sample("rlm_next_slot_seconds", {"endpoint": one.name}, views[one.name].wait_seconds)
        budget = views.get(one.budget.name) if isinstance(one, Endpoint) and one.budget else None
        health = circuit_of(views[one.name], budget)
        for word in Circuit:
            yield Sample("rlm_endpoint_health", {"endpoint": one.name, "health": word}, int(word is health))
        for state in dict.fromkeys(word.former for word in Circuit):
            yield Sample("rlm_endpoint_circuit", {"endpoint": one.name, "state": state}, int(state == health.former))


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
    yield Sample("rlm_lanes_busy", {}, sum(store.processes.busy([one.id for one in workers])))
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
