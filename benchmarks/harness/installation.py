"""RLM under measurement: scheduler, supervisor and workers as real processes, the strict API as another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.harness.api import ApiProcess
from tests.acceptance.system import System, make_item
from tests.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.harness.plain_api import PlainApi

#: Seconds until all workers must be ready.
WARMING_SECONDS = 60.0


class Installation(System):
    """An installation whose API does not share its process with the measuring program."""

    def __init__(self, directory: Path, *, api: ApiProcess | PlainApi | None = None, **options: Any) -> None:
        super().__init__(directory, **options)
        self.api = api or ApiProcess(self.config)

    @classmethod
    def warm(cls, directory: Path, *, workers: int, **options: Any) -> Installation:
        """Make one with exactly `workers` workers."""
        env = {"RLM_WORKERS__MIN": str(workers), "RLM_WORKERS__MAX": str(workers)}
        return cls(directory, env=env, **options)

    def start_warm(self) -> None:
        """Start scheduler and supervisor; return once all possible workers are ready."""
        self.start_both()
        most = self.settings.workers.max
        wait_until(lambda: len(self.workers()) == most, timeout=WARMING_SECONDS, message=f"{most} workers are ready")

    def push_items(self, items: Sequence[tuple[str, str]]) -> list[str]:
        """Push items (id, type) like the audit system; return the ids of their events."""
        return self.push([make_item(item_id, name) for item_id, name in items])
