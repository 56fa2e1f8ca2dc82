"""Measures whether the planned workers keep the target, from a cold start, and whether one fewer would.

uv run python benchmarks/target.py                        # full load, time divided by ten
uv run python benchmarks/target.py --speed 1              # at real speed, seven minutes
uv run python benchmarks/target.py --load half --load skewed
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.harness.figures import measure
from benchmarks.harness.installation import Installation
from benchmarks.harness.loads import LOADS, Load


@dataclass(frozen=True, slots=True)
class Kept:
    """One run: its plan, and when the last answer came, in seconds from the run's start."""

    plan: dict[str, Any]
    first_call: float
    done: float
    target: float
    refused: int

    @property
    def kept(self) -> bool:
        return self.done <= self.target and not self.refused

    def __str__(self) -> str:
        return (
            f"{self.plan['workers']} workers planned, forecast {self.plan['forecast_seconds']:.2f} s; first call after"
            f" {self.first_call:.2f} s, done after {self.done:.2f} s, {self.refused} refused: the target of"
            f" {self.target:g} s is {'kept' if self.kept else 'missed'}"
        )


def run_once(load: Load, speed: float, most: int | None = None) -> Kept:
    """Make one run with the planned workers, at most `most`; no worker exists before it."""
    env = {"RLM_WORKERS__MIN": "0"} | ({} if most is None else {"RLM_WORKERS__MAX": str(most)})
    with tempfile.TemporaryDirectory() as name, Installation(Path(name), speed=speed, env=env) as system:
        system.start_both()
        events = set(system.push_items(load.items(system.settings.event_types)))
        started_at = time.monotonic()
        record = system.await_record(system.ask_for_run(), timeout=2 * system.settings.run.window_seconds + 30)
        figures = measure(system.api.arrivals, events, system.settings, started_at)
        target = system.settings.run.target * system.settings.run.window_seconds
        return Kept(record["plan"], figures.first_call, figures.total, target, figures.refused)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", type=float, default=10.0, help="what time is divided by")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--load", choices=LOADS, action="append", help="only this one, full if none; may be repeated")
    options = parser.parse_args()
    missed = False
    for name in (options.load or ["full"]) * options.repeat:
        planned = run_once(LOADS[name], options.speed)
        print(f"{name:9} {planned}", flush=True)
        missed |= not planned.kept
        if planned.plan["workers"] > 1:
            fewer = run_once(LOADS[name], options.speed, planned.plan["workers"] - 1)
            print(f"{name:9} {fewer}", flush=True)
            missed |= fewer.kept
    sys.exit(missed)


if __name__ == "__main__":
    main()
