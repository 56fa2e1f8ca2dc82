"""Measures the main job with real processes and the strict API: its time, its forecast, refused calls.

uv run python benchmarks/main_job.py                      # 1,800 events, time divided by ten
uv run python benchmarks/main_job.py --speed 1            # the same at real speed, three minutes
uv run python benchmarks/main_job.py --speed 1 --window 150 --again   # and 1,800 more on part-used windows
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.harness.figures import measure
from benchmarks.harness.installation import Installation


def run_once(system: Installation, label: str, number: int, pushed: set[str]) -> dict[str, object]:
    """Push `number` events, run, and judge; `pushed` has the events of earlier runs, and these are added."""
    before = len(system.api.arrivals)
    events = system.push_evenly(number, prefix=label[0])
    pushed.update(events)
    started_at = time.monotonic()
    record = system.await_record(system.ask_for_run(), timeout=400)
    figures = measure(system.api.arrivals[before:], events, system.settings, started_at)
    system.assert_promises(pushed, [record])
    plan, counts = record["plan"], record["counts"]
    return {
        "case": label,
        "events": number,
        "state": record["state"],
        "completed": counts["completed"],
        "leftover": counts["leftover"],
        "expected_leftover": plan["expected_leftover"],
        "done_after_start_s": record["duration_seconds"],
        "first_call_to_last_answer_s": round(figures.makespan, 2),
        "forecast_s": plan["forecast_seconds"],
        "lower_bound_s": plan["lower_bound_seconds"],
        "workers": plan["workers"],
        "refused": figures.refused,
        "repeats": figures.repeats,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", type=float, default=10.0)
    parser.add_argument("--events", type=int, default=1800)
    parser.add_argument("--window", type=float, default=None, help="seconds before division")
    parser.add_argument("--workers", type=int, default=None, help="exactly so many workers, warm")
    parser.add_argument("--again", action="store_true", help="as many events once more, as soon as the run has ended")
    options = parser.parse_args()
    env = {"RLM_RUN__WINDOW_SECONDS": str(options.window / options.speed)} if options.window else {}
    if options.workers:
        env |= {"RLM_WORKERS__MIN": str(options.workers), "RLM_WORKERS__MAX": str(options.workers)}
    with (
        tempfile.TemporaryDirectory() as directory,
        Installation(Path(directory), speed=options.speed, env=env) as system,
    ):
        system.start_warm() if options.workers else system.start_both()
        pushed: set[str] = set()
        print(json.dumps(run_once(system, "fresh windows", options.events, pushed)))
        if options.again:
            print(json.dumps(run_once(system, "part-used windows", options.events, pushed)))


if __name__ == "__main__":
    main()
