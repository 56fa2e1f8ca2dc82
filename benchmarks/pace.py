"""Measures the main job: RLM beside the theoretical bound, an achievable schedule and what one would use instead.

uv run --group bench python -m benchmarks.pace                              # all, three times, time divided by ten
uv run --group bench python -m benchmarks.pace --load full --repeat 1       # one load, once
uv run python -m benchmarks.pace --contender rlm --speed 1                  # RLM alone at real speed
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness.api import serving
from benchmarks.harness.figures import Figures, measure, median, spread, table
from benchmarks.harness.processes import NotRunError, private_redis
from benchmarks.harness.rlm import Rlm
from benchmarks.harness.schedule import best_schedule, lower_bound
from benchmarks.harness.work import LOADS, main_job
from benchmarks.rivals.programs import PACE, Program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.harness.work import Work

CONTENDERS = {contender.name: contender for contender in (Rlm(), *PACE)}
#: A contender may try for so many windows; the rest counts as undone.
PATIENCE_WINDOWS = 3
HEAD = (
    *("contender", "makespan, s", "over the bound", "over the schedule", "first call, s"),
    *("refused calls", "repeats", "undone in the window", "forecast's error"),
)


def run_once(contender: Rlm | Program, work: Work) -> Figures:
    """Let a contender do the work once.

    RLM has its embedded server, which is safe on its disk at every write; the others have one that writes nothing.
    """
    with tempfile.TemporaryDirectory(prefix="rlm-bench-") as name, serving(work, Path(name)) as api:
        directory = Path(name)
        if isinstance(contender, Rlm):
            return _run(contender, work, api, "", directory)
        with private_redis(directory, durable=False) as redis_url:
            return _run(contender, work, api, redis_url, directory)


def _run(contender, work, api, redis_url, directory) -> Figures:
    with contender.ready(work, api.url, redis_url, directory) as running:
        running.begin()
        api.await_events(work.count, PATIENCE_WINDOWS * work.window)
        started_at, forecast = running.result(work.window + 30)
        return measure(api.calls(), work, started_at, forecast)


def load_table(work: Work, runs: dict[str, list[Figures]]) -> str:
    """Return the medians of one load, the computed rows first."""
    bound, possible = lower_bound(work), best_schedule(work)
    rows = [
        [name, f"{end:.2f}", f"{end / bound:.3f}", f"{end / possible:.3f}", *[""] * 5]
        for name, end in (("`bound`", bound), ("`schedule`", possible))
    ]
    rows += [_row(name, results, bound, possible) for name, results in runs.items()]
    return table(HEAD, rows)


def _row(name: str, runs: Sequence[Figures], bound: float, possible: float) -> list[str]:
    makespan, error = median(runs, "makespan"), median(runs, "error")
    return [
        f"`{name}`",
        f"{makespan:.2f}",
        f"{makespan / bound:.3f}",
        f"{makespan / possible:.3f}",
        f"{median(runs, 'first_call'):.2f}",
        spread(run.refused for run in runs),
        spread(run.repeats for run in runs),
        spread(run.late for run in runs),
        "none" if error is None else f"{error:.1%}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", type=float, default=10.0, help="what time is divided by")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each contender at each load")
    parser.add_argument("--contender", choices=CONTENDERS, action="append", help="only this one; may be repeated")
    parser.add_argument("--load", choices=LOADS, action="append", help="only this one; may be repeated")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that all children are ended
    names, loads = options.contender or list(CONTENDERS), options.load or list(LOADS)
    runs: dict[str, dict[str, list[Figures]]] = {load: {} for load in loads}
    not_run: dict[str, str] = {}
    for number in range(options.repeat):  # in turns, so that a slow minute of the machine affects all
        for load in loads:
            for name in [name for name in names if name not in not_run]:
                try:
                    figures = run_once(CONTENDERS[name], main_job(load, options.speed))
                except NotRunError as error:
                    not_run[name] = str(error)
                    continue
                runs[load].setdefault(name, []).append(figures)
                print(f"{number + 1} {load} {name} {figures}", file=sys.stderr, flush=True)
    for load in loads:
        work = main_job(load, options.speed)
        print(f"\n#### {load}: {work.count:,} events\n\n{load_table(work, runs[load])}")
    for name, why in not_run.items():
        print(f"\nNot run, or not to the end: `{name}`: {why}")


if __name__ == "__main__":
    main()
