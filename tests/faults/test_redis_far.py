"""A Redis in another place, 50 ms away: runs are closed in time there, too."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.faults.behind import behind_proxies

pytestmark = [pytest.mark.alone, pytest.mark.long]

#: On the way to Redis, and on the way back, seconds.
FAR_SECONDS = 0.05
#: How late a run may be closed, seconds.
LATE_SECONDS = 1.0
DOCUMENT = """
[types.A]
priority = 5
processing_seconds = 2.0
rate_limit = "30/minute"
endpoints = [ { name = "a1", url = "http://127.0.0.1:1/a1" }, { name = "a2", url = "http://127.0.0.1:1/a2" } ]
"""
ENV = {"RLM_WORKERS__MIN": "2", "RLM_WORKERS__MAX": "2", "RLM_RUN__GUARD_SECONDS": "0.5"}


@pytest.mark.parametrize("slow", [1, 60])
def test_a_run_is_closed_in_time(tmp_path, slow):
    """Which more events wait for than the limits admit; or one of whose endpoints has calls cut at the deadline."""
    with behind_proxies(tmp_path, document=DOCUMENT, env=ENV) as system:
        system.api.set_fault("a2", slow=slow)
        for proxy in system.proxies.values():
            proxy.delay_seconds = FAR_SECONDS
        system.push_evenly(250)

        record = system.await_record(system.ask_for_run())
        seen_us = system.store.now_us()

        finished, deadline = (datetime.fromisoformat(record[name]).timestamp() for name in ("finished_at", "deadline"))
        print(f"closed {finished - deadline:.2f} s late, seen {seen_us / 1_000_000 - deadline:.2f} s late")
        assert record["state"] == "partial"
        assert finished - deadline < LATE_SECONDS
        assert seen_us / 1_000_000 - deadline < LATE_SECONDS + 2 * FAR_SECONDS
        for proxy in system.proxies.values():
            proxy.delay_seconds = 0.0
