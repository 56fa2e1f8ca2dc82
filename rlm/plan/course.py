"""What a simulation comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Start(NamedTuple):
    """A group of calls of one type begun at one endpoint at one moment, and how long each takes."""

    at: int
    type: str
    gate: str
    events: int
    takes: int


@dataclass(slots=True)
class Course:
    """What a simulation came to: all starts in order of time; by type what is left and when the last is answered.

    `failed` of what is left had all the attempts there are.
    """

    starts: list[Start] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)
    failed: int = 0

    @property
    def leftover(self) -> int:
        """Events that cannot be answered by the deadline."""
        return sum(self.left.values())

    @property
    def forecast(self) -> int:
        """When the last event that fits is answered, 0 if none does. Ticks."""
        return max(self.answered.values(), default=0)
