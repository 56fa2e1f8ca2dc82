"""A Redis far away: no limit is exceeded, the run is closed in time, and says what it waited for."""

from __future__ import annotations

import pytest

from rlm.core.clock import timestamp
from tests.faults.behind import behind_proxies
from tests.faults.test_processes_die import assert_next_run
from tests.wait import wait_until

pytestmark = pytest.mark.rest

#: More slots than two workers far from Redis can use, with calls that are as short as the way.
DOCUMENT = """
[run]
window_seconds = WINDOW
[workers]
min = 2
max = 2
[types.QUICK]
processing_seconds = 0.02
rate_limit = "2000/minute"
endpoints = [{ name = "one", url = "http://127.0.0.1:1/one" }, { name = "two", url = "http://127.0.0.1:1/two" }]
"""
MORE_THAN_FIT = 600


@pytest.mark.parametrize(
    ("way_seconds", "window", "least", "late_seconds"), [(0.05, "11", 100, 1.0), (0.2, "45", 0, 2.0)]
)
def test_a_run_far_from_redis_is_closed_in_time_and_says_why_so_much_is_left(
    tmp_path, way_seconds, window, least, late_seconds
):
    """Its lanes wait for Redis most of the time, and not for a limit; or each slot comes too late to be used."""
    with behind_proxies(tmp_path, document=DOCUMENT.replace("WINDOW", window), speed=1.0, env={}) as system:
        system.start_both()
        for proxy in system.proxies.values():
            proxy.delay_seconds = way_seconds
        events = system.push_evenly(MORE_THAN_FIT)
        run_id = system.ask_for_run()
        wait_until(lambda: len(system.api.arrivals) >= least / 2, timeout=30, message="calls are made")

        record = system.await_record(run_id)

        for proxy in system.proxies.values():
            proxy.delay_seconds = 0.0
        counts = record["counts"]
        assert record["state"] == "partial"
        assert counts["completed"] >= least
        assert counts["leftover"] > 0
        assert timestamp(record["finished_at"]) - timestamp(record["deadline"]) < late_seconds
        assert [one["cause"] for one in record["why"]] == ["redis"], record["why"]
        assert_next_run(system)  # it takes what is still staged
        system.assert_promises(events, [record])
