"""Screenshots of every page from a real run: `uv run python -m tests.browser.screenshots DIR [PAGE...]`.

Each page light and dark, wide and narrow, during a run; some also at the minimum and maximum width, between two runs,
and with more events than fit into a run. The system behind it has earlier runs, a failing endpoint, a paused one,
limits changed by hand, and dead letters. Those of the tour are written to `DIR/tour`, as WebP.
"""

from __future__ import annotations

import base64
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.acceptance.system import System
from tests.acceptance.webprocess import port_of
from tests.browser.chromium import browser, resize
from tests.browser.stage import every_path
from tests.wait import wait_until

WIDE, NARROW, WIDEST, NARROWEST = 1440, 390, 2560, 360
#: Each width, and whether dark; then those in which a page is shown once.
USUAL = ((WIDE, False), (WIDE, True), (NARROW, False), (NARROW, True))
RARE = ((NARROWEST, False), (WIDEST, True))
#: The pictures of docs/dashboard.md and README.md: page, when, and whether dark.
TOUR = (
    ("now", "run", False),
    ("endpoints", "run", True),
    ("whatif", "full", False),
)
#: The part of its page in a picture of the tour, pixels, and how much of it is kept.
TOUR_HEIGHT, QUALITY = 960, 45
#: The window of a screenshot's run is 45 s: long enough to show all pages in the middle of it.
SPEED = 4.0
#: Events of a run that has time for all of them, and of one that does not.
EVENTS, TOO_MANY = 1500, 4500
BEFORE = (700, 900, 400, 2600, 900, 100, 100, 600)


def main() -> None:
    """Make them."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="rlm-shots-") as place,
        System(Path(place), speed=SPEED) as system,
        browser() as driver,
    ):
        system.start("web", "web", "--port", "0")
        base = f"http://127.0.0.1:{port_of(lambda: system.log('web'))}"
        shots = Shots(driver, base, directory, sys.argv[2:])
        shots.take("empty", ["/"])
        system.start_both()
        runs = earlier_runs(system)
        shots.take("idle", ["/"])
        make_interesting(system)
        runs.append(open_run(system, EVENTS, "shot"))
        paths = every_path(system, runs, next(one for one in system.pushed if one.startswith("shot-")))
        shots.take("run", paths, RARE)
        system.await_record(runs[-1])
        shots.take("over", ["/", f"/runs/{runs[-1]}"])
        open_run(system, TOO_MANY, "full")
        shots.take("full", ["/", "/runs", "/queue", "/whatif"])
        print(f"{shots.taken} pictures in {directory}")


class Shots:
    """Takes pictures of pages into a directory."""

    def __init__(self, driver, base, directory, only):
        self._driver, self._base, self._directory, self._only = driver, base, directory, only
        self.taken = 0

    def take(self, when, paths, rare=()):
        """Take pictures of the pages at these paths."""
        for path in paths:
            name = named(path)
            if self._only and name not in self._only and f"{name}-{when}" not in self._only:
                continue
            self._driver.get(self._base + path)
            time.sleep(1.2)  # what was read last may be a second old
            for width, dark in (*USUAL, *rare):
                resize(self._driver, width, dark=dark)
                time.sleep(0.2)
                self._save(f"{name}-{when}-{width}-{'dark' if dark else 'light'}.png", 6000)
                if width == WIDE and (name, when, dark) in TOUR:
                    self._save(f"tour/{name}.webp", TOUR_HEIGHT, format="webp", quality=QUALITY)

    def _save(self, name, most, **how):
        size = self._driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], most), "scale": 1}
        asked = {"clip": clip, "captureBeyondViewport": True, **how}
        file = self._directory / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(base64.b64decode(self._driver.execute_cdp_cmd("Page.captureScreenshot", asked)["data"]))
        self.taken += 1


def named(path):
    """Return a name for the picture of a page."""
    first, *more = path.partition("?")[0].strip("/").split("/")
    what = {"runs": "compare" if more == ["compare"] else "RUN", "events": "EVENT"}.get(first, "") if more else ""
    return "-".join(filter(None, (first or "now", what)))


def earlier_runs(system):
    """Leave records of some runs, like a system that has been up for a while; return their ids."""
    runs = []
    for number, events in enumerate(BEFORE):
        system.push_evenly(events, prefix=f"r{number}-")
        system.push(
            [{"id": f"bad-{number}-{one}", "wallet_name": "wallet_007", "events": ["NOT_A_TYPE"]} for one in (1, 2)]
        )
        run_id = system.ask_for_run()
        runs.append(run_id)
        if events > 2000:  # one that is ended early
            wait_until(lambda run_id=run_id: system.inflight() > 5, timeout=30, message="calls are under way")
            system.rlm("cancel")
        system.await_record(run_id, timeout=90)
    return runs


def make_interesting(system):
    """Let an endpoint fail a third of its calls, one fail for good, pause one, and change another one's limit."""
    system.api.set_faults(
        {
            "open_order_api": {"error_rate": 0.3, "status": 500},
            "overflow_balance_check_api_2": {"error_rate": 0.15, "status": 422},
            "overflow_rebalance_api_3": {"error_rate": 1.0, "status": 503},
        }
    )
    system.rlm("endpoint", "pause", "overflow_balance_update_api_3", "--for", "10m")
    system.rlm("endpoint", "limit", "overflow_open_position_api_2", "20 per 15 seconds")


def open_run(system, events, prefix):
    """Start a run and wait until its second burst of calls is over."""
    types = system.types
    chosen = random.Random(7).choices(types, weights=(5, 3, 4, 2, 2), k=events)
    system.push(
        [{"id": f"{prefix}-{n}", "wallet_name": f"wallet_{n:04d}", "events": [name]} for n, name in enumerate(chosen)]
    )
    run_id = system.ask_for_run()
    window = system.settings.run.window_seconds

    def is_half_over():
        run = system.store.runs.current()
        return run is not None and run.left_seconds(system.store.now_us()) < window * 0.6

    wait_until(is_half_over, timeout=60, message="half of the window is over")
    return run_id


if __name__ == "__main__":
    main()
