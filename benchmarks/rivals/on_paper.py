"""The bound, and an achievable schedule: computed, not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.harness.contender import LANES, Result
from benchmarks.harness.figures import Figures
from benchmarks.harness.schedule import best_schedule, lower_bound
from rlm.sandbox.configuration import demo_document
from rlm.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.harness.loads import Load
    from rlm.settings import Settings


class Bound:
    """What no schedule beats on 100 lanes, whatever it knows: the server's limits only."""

    name = "bound"

    def run(self, load: Load, speed: float, directory: Path) -> Result:
        """Compute it."""
        types = _settings(speed, directory).event_types
        return _result(load, lower_bound(load.backlog(types), types, LANES))


class Schedule:
    """A schedule for 100 lanes that leaves calls RLM's guard for their way; it knows everything and costs nothing."""

    name = "schedule"

    def run(self, load: Load, speed: float, directory: Path) -> Result:
        """Compute it."""
        settings = _settings(speed, directory)
        types = settings.event_types
        return _result(load, best_schedule(load.backlog(types), types, LANES, settings.run.guard_seconds).seconds)


def _settings(speed: float, directory: Path) -> Settings:
    config = directory / "rlm.toml"
    config.write_text(demo_document(load_settings(None, {}), speed, "http://127.0.0.1:1"))
    return load_settings(config, {})


def _result(load: Load, seconds: float) -> Result:
    return Result(Figures(makespan=seconds, first_call=0, in_window=load.events, refused=0, repeats=0, undone=0))
