"""Measures the main job with real processes against the strict API: its time, its forecast, what was refused.

uv run python benchmarks/main_job.py                      # 1,800 events, time divided by ten
uv run python benchmarks/main_job.py --speed 1            # the same at real speed, three minutes
uv run python benchmarks/main_job.py --speed 1 --window 150 --again   # and 1,800 more on part-used windows
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.acceptance.system import System, assert_balanced
from tests.wait import wait_until


def measure(system: System, label: str, number: int, expected: set[str]) -> dict[str, object]:
    before = len(system.api.arrivals)
    record = system.await_record(system.ask_for_run(), timeout=400)
    assert_balanced(record)
    arrivals = system.api.arrivals[before:]
    takes = {end.name: one.processing_seconds for one in system.settings.event_types for end in one.endpoints}
    makespan = max(one.at + takes[one.endpoint] for one in arrivals) - min(one.at for one in arrivals)
    system.assert_promises(expected, [record])
    return {
        "case": label,
        "events": number,
        "state": record["state"],
        "completed": record["counts"]["completed"],
        "leftover": record["counts"]["leftover"],
        "expected_leftover": record["plan"]["expected_leftover"],
        "done_after_start_s": record["duration_seconds"],
        "first_call_to_last_answer_s": round(makespan, 2),
        "forecast_s": record["plan"]["forecast_seconds"],
        "lower_bound_s": record["plan"]["lower_bound_seconds"],
        "workers": record["plan"]["workers"],
        "refused": sum(one.refused for one in system.api.summary().values()),
        "repeats": len(system.repeats()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", type=float, default=10.0)
    parser.add_argument("--events", type=int, default=1800)
    parser.add_argument("--window", type=float, default=None, help="window and every, seconds before division")
    parser.add_argument("--workers", type=int, default=None, help="exactly so many workers, warm")
    parser.add_argument("--again", action="store_true", help="as many events once more, as soon as the run has ended")
    options = parser.parse_args()
    env = {}
    if options.window:
        scaled = str(options.window / options.speed)
        env = {"RLM_RUN__WINDOW_SECONDS": scaled, "RLM_RUN__EVERY_SECONDS": scaled}
    if options.workers:
        env |= {"RLM_WORKERS__MIN": str(options.workers), "RLM_WORKERS__MAX": str(options.workers)}
    with tempfile.TemporaryDirectory() as directory, System(Path(directory), speed=options.speed, env=env) as system:
        system.start_both()
        if options.workers:
            wait_until(lambda: len(system.workers()) == options.workers, message="the workers are warm")
        events = set(system.push_evenly(options.events))
        rows = [measure(system, "fresh windows", options.events, events)]
        if options.again:
            events |= set(system.push_evenly(options.events, prefix="again"))
            rows.append(measure(system, "part-used windows", options.events, events))
    for row in rows:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
