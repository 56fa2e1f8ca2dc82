"""Redis is changed during a run so that it could lose events: no call is made until it is fit again."""

from __future__ import annotations

import signal
import time

import pytest

from rlm.admin.conditions import conditions
from scheduler.office import FIT_SECONDS
from tests.faults.test_processes_die import assert_next_run
from tests.wait import wait_until

pytestmark = pytest.mark.rest

#: Calls that were claimed before it was noticed are sent within so long, seconds.
UNDER_WAY_SECONDS = 1.5


def test_a_redis_that_would_evict_gets_no_more_to_keep(system):
    """It is told what to set, calls end meanwhile, and the run goes on once it is set."""
    events = system.push_evenly(450)
    run_id = system.ask_for_run()
    wait_until(lambda: len(system.answered()) > 100, timeout=40, message="the run is in its middle")
    client = system.store.client

    client.config_set("maxmemory", 2**30)
    client.config_set("maxmemory-policy", "allkeys-lru")
    wait_until(lambda: "set maxmemory-policy to noeviction" in system.log("scheduler"), message="it is noticed")
    time.sleep(UNDER_WAY_SECONDS)  # what was claimed goes out
    seen = len(system.api.arrivals)
    time.sleep(FIT_SECONDS / 2)
    assert len(system.api.arrivals) == seen
    system.stop("scheduler", signal.SIGKILL)  # whoever succeeds the conductor lets lanes have calls again
    client.config_set("maxmemory-policy", "noeviction")
    system.start("scheduler")

    record = system.await_record(run_id)
    assert len(system.api.arrivals) > seen
    system.assert_promises(events, [record])
    assert_next_run(system)


def test_a_redis_that_takes_no_more_clients_keeps_the_workers_away(system):
    """That is why none is ready; then the run goes on."""
    client = system.store.client
    client.config_set("maxclients", client.info("clients")["connected_clients"])
    events = system.push_evenly(40)
    run_id = system.ask_for_run()

    wait_until(lambda: "as many clients as it takes" in str(conditions(system.store)), message="it is said why")
    client.config_set("maxclients", 1000)

    system.assert_promises(events, [system.await_record(run_id)])
