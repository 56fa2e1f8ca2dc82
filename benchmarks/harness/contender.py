"""A contender: a program that sends a load's events to the strict API when told to."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from benchmarks.harness.figures import Figures, measure

if TYPE_CHECKING:
    from collections.abc import Collection

    from benchmarks.harness.api import ApiProcess
    from benchmarks.harness.loads import Load
    from rlm.settings import Settings

#: A contender may try for so many windows; the rest counts as undone.
PATIENCE_WINDOWS = 3
#: Seconds between two looks at the server's log: seldom, because each takes from the processors that all share.
LOOK_SECONDS = 0.25
#: The lanes of RLM's default maximum of workers; rivals with threads have as many threads.
LANES = 100


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one run: its figures, and the forecast end in seconds after the first call, if any."""

    figures: Figures
    forecast: float | None = None


class NotRunError(Exception):
    """Raised when a contender cannot run here; the message says why."""


class Contender(Protocol):
    """One row of the table."""

    name: str

    def run(self, load: Load, speed: float, directory: Path) -> Result:
        """Send the events of `load`, time divided by `speed`, with all its files in `directory`.

        Raises:
            NotRunError: it cannot run here.
        """
        ...


def run_in_peace(contender: Contender, load: Load, speed: float) -> Result:
    """Run a contender in its own directory."""
    with tempfile.TemporaryDirectory(prefix="rlm-bench-") as directory:
        return contender.run(load, speed, Path(directory))


def judge(api: ApiProcess, events: Collection[str], settings: Settings, started_at: float) -> Figures:
    """Wait until all events are answered well or patience ends, and return the figures."""
    patience_ends = started_at + PATIENCE_WINDOWS * settings.run.window_seconds
    wanted = set(events)
    while time.monotonic() < patience_ends and wanted - {one.event_id for one in api.arrivals if one.status == 200}:
        time.sleep(LOOK_SECONDS)
    return measure(api.arrivals, wanted, settings, started_at)
