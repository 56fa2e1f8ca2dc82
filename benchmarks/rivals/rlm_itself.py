"""RLM: a scheduler and a supervisor with 20 warm workers of 5 threads; its Redis syncs its disk at every write."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.harness.contender import LANES, Result, judge
from benchmarks.harness.installation import Installation

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.harness.loads import Load

THREADS = 5


class RlmItself:
    """RLM as delivered, with the events in its audit list, told to start."""

    name = "rlm"

    def run(self, load: Load, speed: float, directory: Path) -> Result:
        """Run it; its forecast is that of the plan before its first call."""
        with Installation.warm(directory, speed=speed, workers=LANES // THREADS) as system:
            system.start_warm()
            events = system.push_items(load.items(system.settings.event_types))
            started_at = time.monotonic()
            run_id = system.ask_for_run()
            figures = judge(system.api, events, system.settings, started_at)
            record = system.await_record(run_id, timeout=2 * system.settings.run.window_seconds + 30)
            return Result(figures, record["plan"]["forecast_seconds"])
