"""The gauges of the metrics page, read from a ledger in that state."""

from __future__ import annotations

from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rlm.core.clock import system_clock
from rlm.core.documents import Reasons
from rlm.delivery import run_end
from rlm.ledger.processes import Process, Role
from rlm.telemetry.catalogue import counters
from rlm.telemetry.metrics import MetricsPage
from tests.store import looks, steps

pytestmark = pytest.mark.both_servers


@pytest.fixture
def read(store):
    """Read the page like Prometheus: the number of a series by its name and the values of its labels."""
    page = MetricsPage(store)

    def read():
        with looks.nothing_changes(store):
            text = page.write().decode()
        samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
        series = Counter((one.name, frozenset(one.labels.items())) for one in samples)
        assert [one for one, number in series.items() if number > 1] == []
        found = {(one.name, frozenset(one.labels.values())): one.value for one in samples}
        return lambda name, *labels: found[name, frozenset(labels)]

    return read


def test_before_the_first_run_nothing_waits_and_nothing_is_missing(store, read):
    """Each type, endpoint, state and outcome has its series from the first on: what is not there raises no alarm."""
    page = read()

    assert page("rlm_up") == 1
    assert page("rlm_last_tick_timestamp_seconds") == 0
    assert page("rlm_condition", "no_scheduler", "scheduler") == 1
    assert [state for state in ("idle", "draining", "planning", "running") if page("rlm_run_state", state)] == ["idle"]
    assert page("rlm_run_deadline_timestamp_seconds") == 0
    for name in store.settings.types:
        assert page("rlm_queue_events", name, "pending") == page("rlm_events_total", name, "completed") == 0
    for name in store.settings.endpoints:
        assert page("rlm_last_run_excess_calls", name) == 0
    assert page("rlm_runs_total", "failed") == 0
    assert page("rlm_worker_restarts_total") == 0
    assert {one.value for one in counters(store.settings, store.totals.look())} == {0}


def test_while_a_run_is_open_it_says_where_everything_is(store, token, running, read):
    """Of four events one is under way in one of a worker's lanes; a new item waits, an endpoint is paused."""
    run = running(4)
    store.publish_limits(token)
    for number, state in enumerate(("ready", "starting")):
        process = Process(f"w{number}", 7 + number, "h", system_clock.now(), state, threads=5)
        store.processes.announce(Role.WORKER, process)
    store.processes.announce(Role.SCHEDULER, Process("s", 1, "h", 0.0))
    store.runs.want(token, 2)
    steps.claim(store, "w0")
    steps.push(store, steps.item("new", steps.TYPE, timestamp="2020-01-01T00:00:00Z"))
    store.control.pause(store.settings.endpoints[steps.OVERFLOW], "me")

    page = read()

    assert (page("rlm_run_state", "running"), page("rlm_run_state", "idle")) == (1, 0)
    assert page("rlm_run_deadline_timestamp_seconds") == pytest.approx(run.deadline)
    assert (page("rlm_queue_events", steps.TYPE, "pending"), page("rlm_queue_events", steps.TYPE, "inflight")) == (3, 1)
    assert 0 < page("rlm_queue_oldest_seconds", steps.TYPE) < 60
    assert (page("rlm_audit_list_items"), page("rlm_dead_letters")) == (1, 0)
    assert page("rlm_condition", "endpoint_paused", steps.OVERFLOW) == 1
    assert (page("rlm_workers_wanted"), page("rlm_workers", "ready"), page("rlm_workers", "starting")) == (2, 1, 1)
    assert (page("rlm_lanes"), page("rlm_lanes_busy")) == (10, 1)
    assert page("rlm_events_total", steps.TYPE, "taken") == 4


def test_after_a_run_it_says_what_became_of_it(store, token, running, read):
    """Its end, its events, the most of its calls in any period; a histogram's last bucket has all there are."""
    run = running(3)
    store.publish_limits(token)
    claim = steps.claim(store)
    steps.complete(store, claim, 0.3)
    steps.finish(store, token, run)
    assert run_end.close_run(store, run.id)

    page = read()

    assert page("rlm_events_total", steps.TYPE, "leftover") == 2
    assert sum(page("rlm_last_run_leftovers", reason) for reason in Reasons.__struct_fields__) == 2
    assert page("rlm_last_run_excess_calls", steps.ENDPOINT) == 0
    assert page("rlm_runs_total", "partial") == page("rlm_run_duration_seconds_count") == 1
    buckets = [page("rlm_call_duration_seconds_bucket", steps.ENDPOINT, le) for le in ("0.05", "0.25", "0.5", "+Inf")]
    assert buckets == [0, 0, 1, 1]
    assert page("rlm_call_duration_seconds_count", steps.ENDPOINT) == 1
    assert page("rlm_call_duration_seconds_sum", steps.ENDPOINT) == 0.3


def test_a_type_that_is_no_longer_configured_is_told_of_as_long_as_its_events_wait(store, read):
    """Then its series ends."""
    store.client.hset(store.keys.totals, mapping={"taken:GONE": 0, "taken:LONG_GONE": 0})
    store.client.zadd(store.keys.ready("GONE"), {"x:GONE": 1})

    page = read()

    assert page("rlm_queue_events", "GONE", "pending") == 1
    with pytest.raises(KeyError):
        page("rlm_queue_events", "LONG_GONE", "pending")
