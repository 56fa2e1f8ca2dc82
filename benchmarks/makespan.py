"""Measures RLM alone with warm workers: makespan, forecast, refused calls, how late calls arrived.

uv run python benchmarks/makespan.py                          # four loads, ten times each, time divided by ten
uv run python benchmarks/makespan.py --speed 1 --repeat 1     # the same at real speed
uv run python benchmarks/makespan.py --load skewed            # one load
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.harness.figures import Figures, measure
from benchmarks.harness.installation import Installation
from benchmarks.harness.loads import LOADS, Load
from benchmarks.harness.schedule import best_schedule

WORKERS = 20
#: The targets: makespan over the achievable schedule, and the forecast's error, at real speed and faster.
TARGETS = {True: (1.02, 0.02), False: (1.08, 0.05)}


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: its figures, its forecast, the best possible, and how late each call arrived after its slot."""

    figures: Figures
    forecast: float
    possible: float
    delays: list[float]
    guard: float
    unmatched: int

    @property
    def ratio(self) -> float:
        return self.figures.makespan / self.possible

    @property
    def error(self) -> float:
        return (self.forecast - self.figures.makespan) / self.figures.makespan

    def __str__(self) -> str:
        figures = self.figures
        return (
            f"makespan {figures.makespan:7.3f} s, possible {self.possible:7.3f}, ratio {self.ratio:.4f};"
            f" forecast {self.forecast:7.3f}, error {self.error:+.2%}; {figures.refused} refused,"
            f" {figures.repeats} repeats, {figures.undone} undone; first call after {figures.first_call:.3f} s;"
            f" {lateness(self.delays, self.guard)}{f', {self.unmatched} unmatched' if self.unmatched else ''}"
        )


def run_once(load: Load, speed: float) -> Measured:
    with tempfile.TemporaryDirectory() as name, Installation.warm(Path(name), speed=speed, workers=WORKERS) as system:
        system.start_warm()
        types = system.settings.event_types
        events = set(system.push_items(load.items(types)))
        started_at = time.monotonic()
        run_id = system.ask_for_run()
        record = system.await_record(run_id, timeout=2 * system.settings.run.window_seconds + 30)
        lanes, guard = WORKERS * system.settings.workers.threads, system.settings.run.guard_seconds
        delays, unmatched = delays_of(system)
        return Measured(
            figures=measure(system.api.arrivals, events, system.settings, started_at),
            forecast=record["plan"]["forecast_seconds"],
            possible=best_schedule(load.backlog(types), types, lanes, guard).seconds,
            delays=delays,
            guard=guard,
            unmatched=unmatched,
        )


def delays_of(system: Installation) -> tuple[list[float], int]:
    """Return the seconds from each slot to the arrival of its call, and the number without a partner.

    For each endpoint the n-th slot is matched with the n-th arrival. Slots have wall-clock times of this machine,
    arrivals monotonic ones.
    """
    offset = time.time() - time.monotonic()
    arrivals = defaultdict(list)
    for one in system.api.arrivals:
        arrivals[one.endpoint].append(one.at + offset)
    delays: list[float] = []
    unmatched = 0
    for name, endpoint in system.settings.endpoints.items():
        stamps = sorted(stamp / 1e6 for stamp in system.store.windows.stamps(endpoint, 100_000))
        unmatched += abs(len(stamps) - len(arrivals[name]))
        delays += [at - stamp for stamp, at in zip(stamps, sorted(arrivals[name]), strict=False)]
    return delays, unmatched


def lateness(delays: list[float], guard: float) -> str:
    """Return in words how the delays compare with the guard."""
    ordered = sorted(1000 * delay for delay in delays) or [0.0]
    p99 = ordered[int(0.99 * (len(ordered) - 1))]
    late = sum(delay > 1000 * guard for delay in ordered)
    return (
        f"arrived after its slot: median {statistics.median(ordered):.1f}, p99 {p99:.1f}, max {ordered[-1]:.1f} ms;"
        f" {late} later than the guard of {1000 * guard:.0f} ms"
    )


def summarise(name: str, runs: list[Measured], speed: float) -> str:
    """Compare the runs of one load with the targets."""
    most_ratio, most_error = TARGETS[speed <= 1]
    ratios = [one.ratio for one in runs]
    errors = [abs(one.error) for one in runs]
    firsts = [one.figures.first_call for one in runs]
    refused = [one.figures.refused for one in runs]
    kept = max(ratios) <= most_ratio and max(errors) <= most_error and not any(refused)
    return (
        f"{name:9} {len(runs):3} runs:"
        f" ratio {statistics.median(ratios):.4f} (max {max(ratios):.4f}, target {most_ratio});"
        f" forecast error {statistics.median(errors):.2%} (max {max(errors):.2%}, target {most_error:.0%});"
        f" refused {sum(refused)}; repeats {sum(one.figures.repeats for one in runs)};"
        f" first call {statistics.median(firsts):.3f} s (max {max(firsts):.3f}): {'kept' if kept else 'MISSED'}\n"
        f"{'':9} {lateness([delay for one in runs for delay in one.delays], runs[0].guard)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", type=float, default=10.0)
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--load", choices=LOADS, action="append", help="only this one; may be repeated")
    options = parser.parse_args()
    runs: dict[str, list[Measured]] = defaultdict(list)
    for number in range(1, options.repeat + 1):
        for name in options.load or LOADS:  # interleaved, so that a slow minute of the machine affects every load
            runs[name].append(run_once(LOADS[name], options.speed))
            print(f"{name:9} {number:3}  {runs[name][-1]}", flush=True)
    print()
    for name, measured in runs.items():
        print(summarise(name, measured, options.speed))


if __name__ == "__main__":
    main()
