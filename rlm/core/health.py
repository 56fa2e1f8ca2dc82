"""The health of an endpoint or a budget, in one of six words: whether calls go through, and why not.

It is decided here and nowhere else; lists, views, plans, explanations, checks and metrics say the same word.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Protocol

#: A pause or a wait beyond this is one without an end, seconds: what is to end by itself may last a year.
ENDLESS_SECONDS: Final = 10 * 365 * 86_400
#: An endpoint that failed so often in a row is rested.
FAILING: Final = 5


class Circuit(StrEnum):
    """What becomes of the next call, the worst reason first where there are several."""

    HELD = "held"  # none goes: its window cannot be trusted
    PAUSED = "paused"  # none goes: an operator said so
    RESTING = "resting"  # none goes: it rests for what it answered
    PROBING = "probing"  # one at a time goes, until one is answered well
    FULL = "full"  # none goes: all slots of its limit are taken
    OK = "ok"  # calls go as the limit allows

    @property
    def former(self) -> str:
        """The word that the key `circuit` of the JSON and the metric `rlm_endpoint_circuit` have for it."""
        return _FORMER.get(self, self.value)


_FORMER: Final = {
    Circuit.RESTING: "open",
    Circuit.PROBING: "half-open",
    Circuit.FULL: "closed",
    Circuit.OK: "closed",
}
#: Those in which the limit alone decides.
WELL: Final = frozenset({Circuit.OK, Circuit.FULL})

#: Those that an endpoint which failed goes through until it answers well again.
RECOVERING: Final = frozenset({Circuit.RESTING, Circuit.PROBING})


class Resting(Protocol):
    """What is seen of a rest: see `rlm.core.window.WindowState`, and `rlm.plan.values.Window`."""

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


class Seen(Resting, Protocol):
    """A rest, and how many slots are free."""

    @property
    def free(self) -> int:
        """Slots free now."""
        ...


def shut_by(rest: Resting) -> Circuit | None:
    """Return what keeps calls from going as the limit allows; None where nothing does."""
    if rest.held_seconds > 0:
        return Circuit.HELD
    if rest.paused_seconds > 0:
        return Circuit.PAUSED
    if rest.rest_seconds > 0:
        return Circuit.RESTING
    return Circuit.PROBING if rest.suspect else None


def circuit_of(view: Seen, budget: Seen | None = None) -> Circuit:
    """Return the health of an endpoint or a budget; one whose `budget` is full has no slot either."""
    if shut := shut_by(view):
        return shut
    full = view.free <= 0 or (budget is not None and circuit_of(budget) is Circuit.FULL)
    return Circuit.FULL if full else Circuit.OK
