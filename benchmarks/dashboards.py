"""Measures what open dashboards cost a full run, and the size and speed of each page.

uv run python benchmarks/dashboards.py                  # 50 dashboards, three runs each, pages five times
uv run python benchmarks/dashboards.py --part pages     # needs Debian's chromium and chromium-driver
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.harness.children import running
from benchmarks.harness.figures import measure
from benchmarks.harness.installation import Installation
from benchmarks.harness.usage import cpu_seconds
from tests.acceptance.webprocess import port_of
from tests.browser.chromium import browser
from tests.browser.stage import every_path
from tests.wait import wait_until

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

WATCHERS = Path(__file__).parent / "harness/watchers.py"
#: The time of a page's first event, in milliseconds after its navigation began.
FIRST_NEWS = """
window.EventSource = class extends EventSource {
  constructor(...given) {
    super(...given);
    this.addEventListener("message", () => { window.firstNews ??= performance.now(); });
  }
};
"""
LOADED = """
const page = performance.getEntriesByType("navigation")[0];
const parts = performance.getEntriesByType("resource").filter((one) => /\\/static\\//.test(one.name));
const bytes = [page, ...parts].reduce((sum, one) => sum + one.encodedBodySize, 0);
return [bytes, page.domContentLoadedEventEnd, window.firstNews];
"""


class Watched(NamedTuple):
    """A run with `number` open dashboards: its makespan in seconds, and the part of a core that `rlm web` used."""

    makespan: float
    core: float


def run_watched(number: int, events: int, speed: float) -> Watched:
    """Run the main job on fresh windows, with `rlm web` and `number` open dashboards."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        system = stack.enter_context(Installation(place, speed=speed))
        web = system.start("web", "web", "--port", "0")
        system.start_both()
        port = port_of(lambda: system.log("web"))
        if number:
            log = place / "watchers.log"
            stack.enter_context(running([sys.executable, str(WATCHERS), port, str(number)], log))
            wait_until(lambda: "all are told" in log.read_text(), timeout=30, message="all dashboards are told")
        pushed = system.push_evenly(events)
        began, used = time.monotonic(), cpu_seconds([web.pid])
        system.await_record(system.ask_for_run(), timeout=400)
        core = (cpu_seconds([web.pid]) - used) / (time.monotonic() - began)
        return Watched(measure(system.api.arrivals, pushed, system.settings, began).makespan, core)


def measure_runs(options: argparse.Namespace) -> None:
    """Print runs with and without dashboards, in turns, and the medians of both."""
    found: dict[int, list[Watched]] = {0: [], options.dashboards: []}
    for _ in range(options.runs):
        for number, runs in found.items():
            runs.append(run_watched(number, options.events, options.speed))
            print(f"{number:>3} dashboards: makespan {runs[-1].makespan:.2f} s, rlm web {runs[-1].core:.1%} of a core")
    without, watched = (
        Watched(*(statistics.median(one[at] for one in runs) for at in range(2))) for runs in found.values()
    )
    print(
        f"medians: makespan {without.makespan:.2f} s without, {watched.makespan:.2f} s with "
        f"({watched.makespan / without.makespan - 1:+.1%}); rlm web {without.core:.1%} and {watched.core:.1%} of a core"
    )


def measure_pages(options: argparse.Namespace) -> None:
    """Print for each page its size with script and style, and when it is usable and current, during a run."""
    with (
        tempfile.TemporaryDirectory() as directory,
        Installation(Path(directory), speed=1) as system,
        browser() as driver,
    ):
        system.start("web", "web", "--port", "0")
        system.start_both()
        base = f"http://127.0.0.1:{port_of(lambda: system.log('web'))}"
        runs = []
        for _ in range(2):
            system.push_evenly(20, prefix=f"r{len(runs)}-")
            runs.append(system.ask_for_run())
            system.await_record(runs[-1], timeout=200)
        system.push_evenly(options.events)
        runs.append(system.ask_for_run())
        wait_until(system.inflight, timeout=60, message="calls are under way")
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": FIRST_NEWS})
        driver.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": True})
        for path in every_path(system, runs):
            loads = [load(driver, base + path) for _ in range(options.loads)]
            weight, usable, current = (statistics.median(one) for one in zip(*loads, strict=True))
            print(f"{weight / 1000:>6.1f} KB, usable after {usable:>4.0f} ms, current after {current:>4.0f} ms  {path}")


def load(driver: Chrome, url: str) -> tuple[Any, ...]:
    """Load a page as a new visitor; return its bytes, and when it was usable and current, in milliseconds."""
    driver.get(url)
    wait_until(lambda: driver.execute_script("return window.firstNews"), timeout=20, message="the first event")
    return tuple(driver.execute_script(LOADED))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("runs", "pages"))
    parser.add_argument("--dashboards", type=int, default=50)
    parser.add_argument("--runs", type=int, default=3, help="with and without each")
    parser.add_argument("--loads", type=int, default=5, help="of each page")
    parser.add_argument("--speed", type=float, default=10.0)
    parser.add_argument("--events", type=int, default=1800)
    options = parser.parse_args()
    if options.part != "pages":
        measure_runs(options)
    if options.part != "runs":
        measure_pages(options)


if __name__ == "__main__":
    main()
