"""The loads: how many events of each type, from high to low priority, and the events themselves."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rlm.core.endpoint import EventType


@dataclass(frozen=True, slots=True)
class Load:
    """A number of events for each type, from high to low priority."""

    name: str
    counts: tuple[int, ...]

    @property
    def events(self) -> int:
        return sum(self.counts)

    def backlog(self, types: Sequence[EventType]) -> dict[str, int]:
        """Return the counts by type name."""
        return {one.name: count for one, count in zip(types, self.counts, strict=True)}

    def items(self, types: Sequence[EventType], *, seed: int = 1) -> list[tuple[str, str]]:
        """Return each event as its item id and type, in the order of arrival: shuffled."""
        names = [name for name, count in self.backlog(types).items() for _ in range(count)]
        random.Random(seed).shuffle(names)
        return [(f"e{index}", name) for index, name in enumerate(names)]


LOADS = {
    load.name: load
    for load in (
        Load("half", (180,) * 5),
        Load("full", (360,) * 5),
        Load("one-type", (360, 0, 0, 0, 0)),
        Load("skewed", (300, 40, 10, 130, 5)),
    )
}
