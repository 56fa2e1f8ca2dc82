"""The window of an endpoint or a budget at one moment, and its health in one of six words.

The health is decided here and nowhere else; lists, views, plans, explanations, checks and metrics say the same word.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

#: A longer pause or wait has no end, seconds: one that ends by itself lasts a year at the most.
ENDLESS_SECONDS: Final = 10 * 365 * 86_400
#: Failures in a row after which an endpoint is rested.
FAILING: Final = 5


@dataclass(frozen=True, slots=True)
class WindowState:
    """The window of an endpoint or a budget. An endpoint's says nothing of its budget, which has a window of its own.

    `free` slots there are now, and `wait_seconds` until the next one. `rest_seconds` is what is left of the longest
    rest, of whatever kind; `held_seconds` of a rest because the window cannot be trusted; `paused_seconds` of an
    operator's pause. `suspect`: it rested because of its answers, and no probe has been answered well since. `ages` are
    the seconds since each call that may still count, in any order; only plans have them, and count slots by them.
    """

    free: int = 0
    wait_seconds: float = 0.0
    rest_seconds: float = 0.0
    suspect: bool = False
    held_seconds: float = 0.0
    paused_seconds: float = 0.0
    ages: tuple[float, ...] = ()

    def later(self, seconds: float) -> WindowState:
        """Return the window `seconds` later if no call is made. `free` stays as it was read."""
        return replace(
            self,
            wait_seconds=max(0.0, self.wait_seconds - seconds),
            rest_seconds=max(0.0, self.rest_seconds - seconds),
            held_seconds=max(0.0, self.held_seconds - seconds),
            paused_seconds=max(0.0, self.paused_seconds - seconds),
            ages=tuple(age + seconds for age in self.ages),
        )


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
#: Those between a failure and the next good answer.
RECOVERING: Final = frozenset({Circuit.RESTING, Circuit.PROBING})


def shut_by(window: WindowState) -> Circuit | None:
    """Return what keeps calls from going as the limit allows, None if nothing does."""
    if window.held_seconds > 0:
        return Circuit.HELD
    if window.paused_seconds > 0:
        return Circuit.PAUSED
    if window.rest_seconds > 0:
        return Circuit.RESTING
    return Circuit.PROBING if window.suspect else None


def circuit_of(window: WindowState, budget: WindowState | None = None) -> Circuit:
    """Return the health of an endpoint or a budget. An endpoint whose `budget` is full is full as well."""
    if shut := shut_by(window):
        return shut
    full = window.free <= 0 or (budget is not None and circuit_of(budget) is Circuit.FULL)
    return Circuit.FULL if full else Circuit.OK
