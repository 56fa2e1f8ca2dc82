"""Measures this checkout, beside another one if given: pace, refusals, throughput, starts, idling. Prints medians.

git worktree add ../other TAG && (cd ../other && uv sync)
uv run python -m benchmarks --beside ../other               # three times each in turns, about 20 minutes
uv run python -m benchmarks --quick                         # whether it works
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import costs, pace, throughput
from benchmarks.harness.figures import table
from benchmarks.harness.processes import NotRunError
from benchmarks.harness.rlm import Rlm
from benchmarks.harness.schedule import best_schedule
from benchmarks.harness.work import LOADS, main_job, unlimited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: A figure's name and its value.
Figure = tuple[str, float]


def paces(rlm: Rlm, load: str, speed: float) -> Iterator[Figure]:
    """Yield the figures of one load."""
    work = main_job(load, speed)
    figures = pace.run_once(rlm, work)
    yield f"{load}: makespan, s", figures.makespan
    yield f"{load}: over the schedule", figures.makespan / best_schedule(work)
    yield f"{load}: forecast's error", figures.error or 0.0
    yield f"{load}: refused", figures.refused
    yield f"{load}: repeats", figures.repeats
    yield f"{load}: undone", figures.late


def rates(rlm: Rlm, events: int) -> Iterator[Figure]:
    """Yield the figures where no limit binds."""
    spent = throughput.run_once(rlm, unlimited(events))
    yield from ((title, getattr(spent, field)) for field, (title, _) in throughput.COLUMNS.items())


def starts(rlm: Rlm) -> Iterator[Figure]:
    """Yield the seconds of starts."""
    yield from ((f"start, {name}, s", seconds) for name, seconds in costs.measure_start(rlm)._asdict().items())


def idling(rlm: Rlm, seconds: float) -> Iterator[Figure]:
    """Yield what idle workers cost."""
    yield from ((f"idle: {name}", value) for name, value in costs.measure_idle(rlm, seconds)._asdict().items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path, metavar="CHECKOUT", help="another checkout, with its own .venv")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--speed", type=float, default=10.0)
    parser.add_argument("--quick", action="store_true", help="once, with little work: whether it works")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that all children are ended
    checkouts = [Rlm(), *([Rlm(options.beside.resolve(), "beside")] if options.beside else [])]
    try:
        for rlm in checkouts:
            rlm.check()
    except NotRunError as error:
        parser.error(str(error))
    parts: list[Callable[[Rlm], Iterator[Figure]]] = [
        *(lambda rlm, load=load: paces(rlm, load, options.speed) for load in (["skewed"] if options.quick else LOADS)),
        lambda rlm: rates(rlm, 500 if options.quick else 5000),
        starts,
        lambda rlm: idling(rlm, 3.0 if options.quick else 20.0),
    ]
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(1 if options.quick else options.repeat):
        for part in parts:
            for rlm in checkouts:  # in turns, so that a slow minute of the machine affects all
                for figure, value in part(rlm):
                    values[figure][rlm.name].append(value)
                    print(f"{rlm.name}: {figure} {value:.4g}", file=sys.stderr, flush=True)
    rows = [[figure, *(_median(runs[rlm.name]) for rlm in checkouts)] for figure, runs in values.items()]
    print(table(["median (least to most)", *(f"{rlm.name} {rlm.checkout.name}" for rlm in checkouts)], rows))


def _median(values: list[float]) -> str:
    return f"{statistics.median(values):.4g} ({min(values):.4g} to {max(values):.4g})"


if __name__ == "__main__":
    main()
