"""Measures how soon the events of a killed worker are pending and in flight again, time divided by ten.

uv run python benchmarks/killed_worker.py
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.acceptance.system import System
from tests.wait import wait_until

TIMES = 5
CALLS_UNDER_WAY = 3


def measure() -> tuple[float, list[float]]:
    """Kill a worker during a run of 1,500 events; return when it was freed, and when each event was sent again."""
    with tempfile.TemporaryDirectory() as directory, System(Path(directory)) as system:
        system.start_both()
        system.push_evenly(1500)
        run_id = system.ask_for_run()
        store = system.store

        def busy():
            workers = [one for one in store.processes.alive("worker") if one.state == "ready"]
            return next((w for w in workers if store.client.hlen(store.keys.calls(w.id)) >= CALLS_UNDER_WAY), None)

        worker = wait_until(busy, message="a worker has calls under way")
        os.kill(worker.pid, signal.SIGKILL)
        killed_at = time.monotonic()
        while store.client.exists(store.keys.calls(worker.id)):
            pass
        freed = time.monotonic() - killed_at
        record = system.await_record(run_id)
        again = [one.at - killed_at for one in system.api.arrivals if one.event_id in system.repeats()]
        assert record["counts"]["completed"] == 1500
        return freed, [seconds for seconds in again if seconds > 0]


def main() -> None:
    runs = [measure() for _ in range(TIMES)]
    freed = [1000 * seconds for seconds, _ in runs]
    again = [1000 * seconds for _, events in runs for seconds in events]
    print(f"freed after {statistics.median(freed):.0f} ms (median of {TIMES}, at the most {max(freed):.0f} ms)")
    print(f"in flight again after {statistics.median(again or [0]):.0f} ms (median of {len(again)} events)")


if __name__ == "__main__":
    main()
