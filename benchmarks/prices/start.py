"""The time from `rlm start --wait` to the first call, compared with the time of an import."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.harness.plain_api import PlainApi
from benchmarks.prices.throughput import MOST_SECONDS, Shape, installation, surroundings

#: The usual imports of a program that uses Redis and reads settings.
IMPORT = "import redis, pydantic_settings"
REMEDY = "run it with `uv run --group prices`, in an environment that never had the group bench"
EVENTS = 100


def fault_here() -> str:
    """Return why starts cannot be compared in this environment, '' if they can."""
    if find_spec("pydantic_settings") is None:
        return f"a start is compared with `{IMPORT}`, and pydantic-settings is not installed: {REMEDY}"
    if find_spec("gevent") is not None:
        return f"gevent is installed, which Dramatiq imports as it starts: {REMEDY}"
    return ""


def measure_import() -> float:
    """Return the seconds of an interpreter that makes these imports and ends."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", IMPORT], check=True)
    return time.monotonic() - began


def measure_cold() -> float:
    """Return the seconds until the first call if nothing runs, not even the embedded server."""
    shape = Shape()
    load = shape.load(EVENTS)
    with TemporaryDirectory(prefix="rlm-bench-") as name:
        api = PlainApi(Path(name))
        with installation(shape, "", api, Path(name)) as system:
            system.push_items(load.items(system.settings.event_types))
        api.start()  # it ended with the system
        try:
            began = time.monotonic()
            system.start("start", "start", "--wait")
            return api.await_events(load.events, MOST_SECONDS).first_at - began
        finally:
            system.stop("start")
            api.stop()


def measure_warm() -> float:
    """Return the seconds until the first call if a scheduler, a supervisor and its workers are ready."""
    shape = Shape()
    load = shape.load(EVENTS)
    with surroundings() as (_, url, api, place), installation(shape, url, api, place) as system:
        system.start_warm()
        system.push_items(load.items(system.settings.event_types))
        began = time.monotonic()
        system.start("start", "start", "--wait")
        return api.await_events(load.events, MOST_SECONDS).first_at - began
