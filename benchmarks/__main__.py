"""Measures this checkout, beside another one if given: pace, refusals, throughput, starts, idling. Prints medians.

git worktree add ../other TAG && (cd ../other && uv sync)
uv run python -m benchmarks --beside ../other               # three times each in turns, about 20 minutes
uv run python -m benchmarks --quick                         # whether it works
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import costs, pace, throughput
from benchmarks.harness.figures import medians, table
from benchmarks.harness.processes import NotRunError
from benchmarks.harness.rlm import Rlm
from benchmarks.harness.schedule import best_schedule
from benchmarks.harness.work import LOADS, main_job, unlimited

if TYPE_CHECKING:
    from collections.abc import Callable


def measure_pace(rlm: Rlm, load: str, speed: float) -> dict[str, float]:
    """Return the figures of one load."""
    work = main_job(load, speed)
    figures = pace.run_once(rlm, work)
    return {
        f"{load}: makespan, s": figures.makespan,
        f"{load}: over the schedule": figures.makespan / best_schedule(work),
        f"{load}: forecast's error": figures.error or 0.0,
        f"{load}: refused": figures.refused,
        f"{load}: repeats": figures.repeats,
        f"{load}: undone in the window": figures.late,
    }


def measure_throughput(rlm: Rlm, events: int) -> dict[str, float]:
    """Return the figures where no limit binds."""
    spent = throughput.run_once(rlm, unlimited(events))
    return {title: getattr(spent, field) for field, (title, _) in throughput.COLUMNS.items()}


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
    loads, events, seconds = (["skewed"], 500, 3.0) if options.quick else (list(LOADS), 5000, 20.0)
    parts: list[Callable[[Rlm], dict[str, float]]] = [
        *(lambda rlm, load=load: measure_pace(rlm, load, options.speed) for load in loads),
        lambda rlm: measure_throughput(rlm, events),
        costs.measure_start,
        lambda rlm: costs.measure_idle(rlm, seconds),
    ]
    runs: dict[str, list[dict[str, float]]] = {rlm.name: [] for rlm in checkouts}
    for number in range(1 if options.quick else options.repeat):
        for rlm in checkouts:
            runs[rlm.name].append({})
        for part in parts:
            for rlm in checkouts:  # in turns, so that a slow minute of the machine affects all
                runs[rlm.name][number] |= (figures := part(rlm))
                print(rlm.name, figures, file=sys.stderr, flush=True)
    columns = [list(medians(runs[rlm.name])) for rlm in checkouts]
    rows = [[row[0][0], *(f"{median} ({spread})" for _, median, spread in row)] for row in zip(*columns, strict=True)]
    print(table(["median (least to most)", *(f"{rlm.name} {rlm.checkout.name}" for rlm in checkouts)], rows))


if __name__ == "__main__":
    main()
