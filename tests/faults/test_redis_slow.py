"""A Redis far away, 50 ms each way: no limit is exceeded, the run is closed in time, and says what it waited for."""

from __future__ import annotations

import pytest

from rlm.core.clock import timestamp
from tests.faults.behind import behind_proxies
from tests.faults.test_processes_die import assert_next_run
from tests.wait import wait_until

pytestmark = pytest.mark.rest

#: The way to Redis, seconds.
FAR_SECONDS = 0.05
#: A run is closed so soon after its deadline, seconds.
LATE_SECONDS = 1.0
#: More slots than two workers far from Redis can use, with calls that are as short as the way.
DOCUMENT = """
[run]
window_seconds = 11
[workers]
min = 2
max = 2
[types.QUICK]
processing_seconds = 0.02
rate_limit = "2000/minute"
endpoints = [{ name = "one", url = "http://127.0.0.1:1/one" }, { name = "two", url = "http://127.0.0.1:1/two" }]
"""
MORE_THAN_FIT = 600


def test_a_run_far_from_redis_is_closed_in_time_and_says_why_so_much_is_left(tmp_path):
    """Its lanes wait for Redis most of the time, and not for a limit."""
    with behind_proxies(tmp_path, document=DOCUMENT, speed=1.0, env={}) as system:
        for proxy in system.proxies.values():
            proxy.delay_seconds = FAR_SECONDS
        system.start_both()
        events = system.push_evenly(MORE_THAN_FIT)
        run_id = system.ask_for_run()
        wait_until(lambda: len(system.api.arrivals) > 50, timeout=30, message="calls are made")

        record = system.await_record(run_id)

        counts = record["counts"]
        assert counts["completed"] > 100
        assert counts["leftover"] > 0
        assert timestamp(record["finished_at"]) - timestamp(record["deadline"]) < LATE_SECONDS
        assert [one["cause"] for one in record["why"]] == ["redis"], record["why"]
        assert_next_run(system)  # it takes what is still staged
        system.assert_promises(events, [record])
