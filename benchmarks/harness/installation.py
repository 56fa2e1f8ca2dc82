"""RLM as it is measured: scheduler, supervisor and workers as real processes, the strict API as another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.harness.api import ApiProcess
from tests.acceptance.system import System, make_item
from tests.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: How long all workers may take to be there, seconds.
WARMING_SECONDS = 60.0


class Installation(System):
    """An installation whose API does not share a processor's time with whoever measures."""

    def __init__(self, directory: Path, *, speed: float, env: Mapping[str, str] | None = None) -> None:
        super().__init__(directory, speed=speed, env=env)
        self.api = ApiProcess(self.config)

    @classmethod
    def warm(cls, directory: Path, *, speed: float, workers: int) -> Installation:
        """Make one with exactly so many workers."""
        return cls(directory, speed=speed, env={"RLM_WORKERS__MIN": str(workers), "RLM_WORKERS__MAX": str(workers)})

    def start_warm(self) -> None:
        """Start scheduler and supervisor; returns once all the workers there may be are ready."""
        self.start_both()
        most = self.settings.workers.max
        wait_until(lambda: len(self.workers()) == most, timeout=WARMING_SECONDS, message=f"{most} workers are ready")

    def push_items(self, items: Sequence[tuple[str, str]]) -> list[str]:
        """Push items (id, type) as the audit system does; return the ids of their events."""
        return self.push([make_item(item_id, name) for item_id, name in items])
