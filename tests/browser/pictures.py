"""Makes docs/pictures anew, from a run that is half done: uv run python -m tests.browser.pictures [DIRECTORY]."""

from __future__ import annotations

import base64
import sys
import time
from pathlib import Path

from tests.browser.chromium import browser
from tests.browser.stage import stage
from tests.wait import wait_until

ROOT = Path(__file__).parents[2]
#: The pages, each with its name and the height of its picture in pixels.
PAGES = {"/": ("now", 1060), "/endpoints": ("endpoints", 1060), "/whatif?workers=6": ("whatif", 900)}
EVENTS, SPEED = 900, 2.0


def main() -> None:
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/pictures"
    with stage(SPEED) as (system, base), browser() as driver:
        system.push_evenly(200, prefix="first")
        system.await_record(system.ask_for_run())
        system.push([{"id": f"bad-{n}", "wallet_name": "w", "events": ["NOT_A_TYPE"]} for n in range(3)])
        system.push_evenly(EVENTS)
        system.ask_for_run()
        wait_until(lambda: len(system.api.arrivals) > 200 + EVENTS / 3, timeout=120, message="a third is done")
        system.rlm("endpoint", "pause", "overflow_balance_check_api_3", "--for", "10m")
        for path, (name, height) in PAGES.items():
            driver.get(base + path)
            time.sleep(2)
            clip = {"x": 0, "y": 0, "width": 1440, "height": height, "scale": 1}
            options = {"format": "webp", "quality": 80, "clip": clip, "captureBeyondViewport": True}
            image = driver.execute_cdp_cmd("Page.captureScreenshot", options)["data"]
            (place / f"{name}.webp").write_bytes(base64.b64decode(image))
        system.rlm("cancel", check=False)


if __name__ == "__main__":
    main()
