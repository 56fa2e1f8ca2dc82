"""The state of a window at one moment, as the release, the forecast and every face read it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WindowState:
    """How the window of an endpoint or a budget looks: slots free now, seconds until the next is, of rest left.

    An endpoint's leaves its budget out, which has a view of its own. `suspect`: it rested for what it answered, and no
    probe has been answered well since. `rest_seconds` is the longest of all rests; `held_seconds` are of the one that
    it has because its window cannot be trusted, `paused_seconds` of an operator's pause.
    """

    free: int
    wait_seconds: float
    rest_seconds: float
    suspect: bool = False
    held_seconds: float = 0.0
    paused_seconds: float = 0.0
