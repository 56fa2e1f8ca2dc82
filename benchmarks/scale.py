"""Measures the limits of one conductor and one Redis: the cost of events and of waiting, by endpoints, types, lanes.

uv run python benchmarks/scale.py                # every shape, in about five minutes: Markdown tables
uv run python benchmarks/scale.py --quick        # whether it works: two small shapes
uv run python benchmarks/scale.py --write docs   # into docs/scale.md, with the plot if matplotlib is installed
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.harness.conducting import Busy, Claims, Waiting, measure_busy, measure_claims, measure_waiting
from benchmarks.harness.installed import Shape
from benchmarks.harness.report import put_between
from benchmarks.planning_scale import BEFORE, Case
from rlm.plan import compute_plan
from rlm.plan.situation import Capacity, Workload

if TYPE_CHECKING:
    from collections.abc import Sequence

#: By endpoints, by types, by lanes: everything else in a group is the same.
GROUPS = {
    "endpoints": [
        Shape(5, 4, 20, 5, ""),
        Shape(5, 20, 20, 5, ""),
        Shape(5, 200, 20, 5, ""),
        Shape(5, 2000, 20, 5, ""),
    ],
    "types": [Shape(5, 20, 20, 5, ""), Shape(25, 4, 20, 5, ""), Shape(250, 4, 20, 5, ""), Shape(2500, 4, 20, 5, "")],
    "lanes": [
        Shape(5, 4, 20, 5, ""),
        Shape(5, 4, 200, 5, ""),
        Shape(5, 4, 1000, 5, ""),
    ],
}
QUICK = {"endpoints": GROUPS["endpoints"][:2]}
EVENTS, QUICK_EVENTS = 20_000, 2_000
SECONDS, QUICK_SECONDS = 6.0, 1.0
PROCESSES = (1, 2, 4)
#: With fewer events a second, the turns themselves are measured and not an event.
FEW_EVENTS = 50
HEADER = """\
| {0} | conductor, µs an event | Redis, µs an event | commands | bytes | turn, ms | forecast, ms | waiting: \
conductor | Redis | commands/s | kB/s | plan, ms |
|---|---|---|---|---|---|---|---|---|---|---|---|"""
CLAIMS_HEADER = """\
| processes | turns/s here | Redis, µs a turn | turns/s at which Redis has a processor of its own to do |
|---|---|---|---|"""


def measure(shape: Shape, events: int, seconds: float) -> dict[str, Any]:
    """Make all measurements of a shape."""
    busy, waiting = measure_busy(shape, events, seconds), measure_waiting(shape, seconds / 2)
    return {"busy": asdict(busy), "waiting": asdict(waiting), "plan": plan_seconds(shape, 100 * events)}


def plan_seconds(shape: Shape, events: int) -> float:
    """Return the processor time of the plan before the first call."""
    types = Case(shape.types, shape.each, events, shape.lanes).event_types()
    workload = Workload({one.name: events // shape.types for one in types}, types)
    began = time.process_time()
    compute_plan(workload, Capacity(0, shape.workers, shape.threads, turnaround_seconds=0.01), BEFORE)
    return time.process_time() - began


def measure_apart(shape: Shape, events: int, seconds: float) -> tuple[Busy, Waiting, float]:
    """Measure a shape in its own process, so that memory and threads are its own."""
    asked = json.dumps([*shape[:4], events, seconds])
    found = subprocess.run([sys.executable, __file__, "--shape", asked], check=True, stdout=subprocess.PIPE).stdout
    told = json.loads(found)
    return Busy(**told["busy"]), Waiting(**told["waiting"]), float(told["plan"])


def row(name: str, busy: Busy, waiting: Waiting, plan: float) -> str:
    """Return the table row with the cost of a shape."""
    each = [f"{busy.conductor_us:,.0f}", f"{busy.redis_us:,.0f}", f"{busy.commands:.1f}", f"{busy.bytes:,.0f}"]
    cells = [
        name,
        *(each if busy.events >= FEW_EVENTS * busy.seconds else ["-"] * len(each)),
        f"{busy.turn_ms:.1f}",
        f"{busy.forecast_ms:.0f}",
        f"{waiting.conductor:.0%}",
        f"{waiting.redis:.0%}",
        f"{waiting.commands:,.0f}",
        f"{waiting.bytes / 1000:,.0f}",
        f"{1000 * plan:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def names(group: str, shape: Shape) -> str:
    """Return the differing number within a group."""
    return {
        "endpoints": f"{shape.endpoints:,} ({shape.types} x {shape.each:,})",
        "types": f"{shape.types:,} (of {shape.each})",
        "lanes": f"{shape.lanes:,} ({shape.workers:,} x {shape.threads})",
    }[group]


def claims_table(found: Sequence[Claims]) -> str:
    """Return a table of how many turns of lanes one Redis takes."""
    rows = (
        f"| {one.processes} | {one.a_second:,.0f} | {one.redis_us:,.0f} | {one.redis_a_second:,.0f} |" for one in found
    )
    return "\n".join([CLAIMS_HEADER, *rows])


def machine() -> str:
    """Return the name of the machine."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return f"On {platform.system()} {platform.machine()}, {model}, Python {platform.python_version()}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small shapes, a second each")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="the folder of scale.md")
    parser.add_argument("--shape", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.shape:
        *numbers, events, seconds = options.shape
        print(json.dumps(measure(Shape(*numbers, ""), events, seconds)))
        return
    events, seconds = (QUICK_EVENTS, QUICK_SECONDS) if options.quick else (EVENTS, SECONDS)
    parts, known = [machine()], {}
    for group, shapes in (QUICK if options.quick else GROUPS).items():
        lines = [HEADER.format(group)]
        print(lines[0])
        for shape in shapes:
            known[shape] = known.get(shape) or measure_apart(shape, events, seconds)
            lines.append(row(names(group, shape), *known[shape]))
            print(lines[-1], flush=True)
        parts += [f"### By {group}", "\n".join(lines)]
    claims = [measure_claims(GROUPS["endpoints"][0], events, one) for one in PROCESSES]
    parts += ["### Turns of lanes alone", claims_table(claims)]
    print(parts[-1])
    if options.write:
        page = options.write / "scale.md"
        page.write_text(put_between(page.read_text(), "scale.py", "\n\n".join(parts)))


if __name__ == "__main__":
    main()
