"""Measures the cost of a plan, before the first call and during a run, for up to 10,000 endpoints and 10^9 events.

uv run python benchmarks/planning_scale.py              # every case, a Markdown table
uv run python benchmarks/planning_scale.py --targets    # only those with a target; exit code 1 if one is missed
uv run python benchmarks/planning_scale.py --write docs # into docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.harness.report import put_between
from rlm.core.endpoint import Endpoint, EventType, Limit
from rlm.core.expected import Expected
from rlm.core.window import WindowState
from rlm.plan import compute_plan
from rlm.plan.situation import MANY_ENDPOINTS, Capacity, Horizon, RunProgress, Underway, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

THREADS = 5
TIMES = 5
SECONDS = (2.0, 1.5, 1.0, 0.8, 1.2)
LIMIT = Limit.parse("30/minute")
HEADER = """\
| types x endpoints | events | lanes | plan, ms | calls failing in mid-run | re-plan, ms | peak, MB | target |
|---|---|---|---|---|---|---|---|"""
#: The window and target of the built-in configuration, and the same after 70 seconds.
BEFORE = Horizon(deadline_seconds=180, target_seconds=135, guard_seconds=0.5)
MIDWAY = Horizon(deadline_seconds=110, target_seconds=65, guard_seconds=0.5)


@dataclass(frozen=True, slots=True)
class Case:
    """A number of types, of endpoints for each, of events in all, and of lanes.

    During the run, the part `error_rate` of the calls is measured to fail.
    """

    types: int
    endpoints: int
    events: int
    lanes: int
    error_rate: float = 0.01

    def event_types(self) -> tuple[EventType, ...]:
        """Return the types, from high to low priority."""
        types = (
            EventType(
                f"T{number}",
                priority=number % 101,
                processing_seconds=SECONDS[number % len(SECONDS)],
                endpoints=tuple(_endpoint(f"t{number}-{place}") for place in range(self.endpoints)),
            )
            for number in range(self.types)
        )
        return tuple(sorted(types, key=lambda one: -one.priority))

    @property
    def is_planned_anew(self) -> bool:
        """Whether the conductor would plan the rest of such a run repeatedly."""
        return self.types * self.endpoints <= MANY_ENDPOINTS

    def progress(self) -> RunProgress:
        """Return the middle of a run: a call in flight on every lane, half of each window begun."""
        types = self.event_types()
        pairs = itertools.cycle((one.name, end.name) for one in types for end in one.endpoints)
        underway = (Underway(*pair, age_seconds=0.3) for pair in itertools.islice(pairs, self.lanes))
        return RunProgress(tuple(underway), {one.name: 15 * self.endpoints for one in types})


CASES = [
    Case(types, endpoints, events, lanes)
    for types, endpoints in ((5, 2), (5, 4), (5, 20), (5, 200), (5, 2000), (2500, 4))
    for events in (10**3, 10**5, 5 * 10**6, 10**9)
    for lanes in (100, 10_000)
] + [Case(5, 4, 5 * 10**6, 100, error_rate=0.03), Case(5, 200, 5 * 10**6, 100, error_rate=0.03)]
#: The most that planning before the run may take: seconds, and megabytes of the whole process.
TARGETS = {
    Case(5, 4, 5 * 10**6, 100): (0.05, 200.0),
    Case(5, 2000, 10**9, 100): (1.0, 200.0),
    Case(5, 2000, 10**9, 10_000): (1.0, 200.0),
    Case(2500, 4, 10**9, 100): (1.0, 200.0),
    Case(2500, 4, 10**9, 10_000): (1.0, 200.0),
}


def _endpoint(name: str) -> Endpoint:
    return Endpoint(name, f"http://127.0.0.1:8090/{name}", LIMIT, timeout_seconds=10)


def measure(case: Case) -> dict[str, float | None]:
    """Plan a case before its first call, and again in the middle; return seconds, and the peak in megabytes."""
    types = case.event_types()
    backlog = {one.name: case.events // case.types for one in types}
    capacity = Capacity(0, case.lanes // THREADS, THREADS, turnaround_seconds=0.01)
    midway = _midway(case, types) if case.is_planned_anew else None
    return {
        "plan": _median_seconds(lambda: compute_plan(Workload(backlog, types), capacity, BEFORE)),
        "replan": _median_seconds(lambda: compute_plan(Workload(backlog, types, **midway), capacity, MIDWAY))
        if midway
        else None,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10),
    }


def _midway(case: Case, types: tuple[EventType, ...]) -> dict[str, Any]:
    """Return half-used windows, working lanes, and a measured time and error rate for every pair."""
    pairs = [(one, end.name) for one in types for end in one.endpoints]
    ages = tuple(5.0 + 3 * number for number in range(15))
    return {
        "windows": {name: WindowState(ages=ages) for _, name in pairs},
        "expected": {
            (one.name, name): Expected(1.1 * one.processing_seconds, 1.3 * one.processing_seconds, case.error_rate)
            for one, name in pairs
        },
        "progress": case.progress(),
    }


def _median_seconds(plan: Callable[[], object]) -> float:
    """Measure a few plans, fewer if one takes long; return the median."""
    seconds: list[float] = []
    while len(seconds) < TIMES and sum(seconds) < TIMES:
        began = time.perf_counter()
        plan()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def measure_apart(case: Case) -> dict[str, float | None]:
    """Measure a case in its own process, so that the peak of memory is its own."""
    command = [sys.executable, __file__, "--case", json.dumps(asdict(case))]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def row(case: Case, costs: dict[str, float | None]) -> str:
    """Return the table row with the cost of a case and its target."""
    most_seconds, most_mb = TARGETS.get(case, (None, None))
    cells = [
        f"{case.types:,} x {case.endpoints:,}",
        f"{case.events:,}",
        f"{case.lanes:,}",
        f"{1000 * costs['plan']:.1f}",
        *([f"{case.error_rate:.0%}", f"{1000 * costs['replan']:.1f}"] if costs["replan"] is not None else ["-", "-"]),
        f"{costs['peak_mb']:.0f}",
        f"{1000 * most_seconds:.0f} ms, {most_mb:.0f} MB: {'kept' if keeps(case, costs) else 'MISSED'}"
        if most_seconds
        else "",
    ]
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


def keeps(case: Case, costs: dict[str, float | None]) -> bool:
    most_seconds, most_mb = TARGETS.get(case, (float("inf"), float("inf")))
    return costs["plan"] <= most_seconds and costs["peak_mb"] <= most_mb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", action="store_true", help="only the cases that have a target")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="the folder of benchmarks.md")
    parser.add_argument("--case", type=lambda text: Case(**json.loads(text)), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.case)))
        return
    print(HEADER)
    lines, kept = [HEADER], True
    for case in TARGETS if options.targets else CASES:
        costs = measure_apart(case)
        kept = kept and keeps(case, costs)
        lines.append(row(case, costs))
        print(lines[-1], flush=True)
    if options.write:
        page = options.write / "benchmarks.md"
        page.write_text(put_between(page.read_text(), "planning_scale.py", "\n".join(lines)))
    if not kept:
        sys.exit(1)


if __name__ == "__main__":
    main()
