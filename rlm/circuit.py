"""The circuit of an endpoint or a budget, in one word: whether calls go through, and why not."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Protocol

#: A pause or a wait beyond this is one without an end, seconds: what is to end by itself may last a year.
ENDLESS_SECONDS: Final = 10 * 365 * 86_400


class Circuit(StrEnum):
    """What becomes of the next call, the worst reason first where there are several."""

    HELD = "held"  # none goes: its window cannot be trusted
    PAUSED = "paused"  # none goes: an operator said so
    OPEN = "open"  # none goes: it rests for what it answered
    HALF_OPEN = "half-open"  # one at a time goes, until one is answered well
    CLOSED = "closed"  # calls go as the limit allows


class Resting(Protocol):
    """What is seen of a window: see `rlm.store.window.View`."""

    @property
    def rest_seconds(self) -> float:
        """What is left of the longest rest, of whatever kind."""
        ...

    @property
    def held_seconds(self) -> float:
        """What is left of the rest because its window cannot be trusted."""
        ...

    @property
    def paused_seconds(self) -> float:
        """What is left of an operator's pause."""
        ...

    @property
    def suspect(self) -> bool:
        """It rested for what it answered, and no probe has been answered well since."""
        ...


def circuit_of(view: Resting) -> Circuit:
    """Return the state of a circuit."""
    if view.held_seconds > 0:
        return Circuit.HELD
    if view.paused_seconds > 0:
        return Circuit.PAUSED
    if view.rest_seconds > 0:
        return Circuit.OPEN
    return Circuit.HALF_OPEN if view.suspect else Circuit.CLOSED
