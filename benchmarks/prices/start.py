"""How long it takes from `rlm start --wait` until the first call arrives, beside what an import takes."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.harness.installation import Installation
from benchmarks.prices.throughput import MOST_SECONDS, Shape, installation, surroundings

#: What a program that talks to Redis and reads a configuration needs at the least.
IMPORT = "import redis, pydantic"
EVENTS = 100


def measure_import() -> float:
    """Return the seconds of an interpreter that imports that and ends."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", IMPORT], check=True)
    return time.monotonic() - began


def measure_start(*, warm: bool) -> float:
    """Return the seconds until the first call; `warm`: scheduler, supervisor and workers are there already."""
    shape = Shape()
    with surroundings() as (_, url, api, place), _system(shape, url, api, place, warm=warm) as system:
        if warm:
            system.start_warm()
        load = shape.load(EVENTS)
        system.push_items(load.items(system.settings.event_types))
        began = time.monotonic()
        system.start("start", "start", "--wait")
        return api.await_events(load.events, MOST_SECONDS).first_at - began


def _system(shape: Shape, url: str, api, place, *, warm: bool) -> Installation:
    if warm:
        return installation(shape, url, api, place)
    return Installation(place, speed=1, document=shape.document(), redis_url=url, api=api)
