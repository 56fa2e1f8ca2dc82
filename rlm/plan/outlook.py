"""When a backlog is gone if as much arrives in every window as in the last runs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from rlm.core.text import counted
from rlm.plan import Plan


class Outlook(msgspec.Struct, frozen=True):
    """The number of `windows` after which nothing is left over; None if that never happens."""

    windows: int | None

    @property
    def sentence(self) -> str:
        """The answer in words."""
        gone = "does not shrink" if self.windows is None else f"is gone in {counted(self.windows, 'window')}"
        return f"At the arrivals of the last runs the backlog {gone}."


def look_ahead(plan: Plan, arrivals: Mapping[str, float]) -> Outlook:
    """Return the outlook of a plan if so many events of each type arrive in every window.

    Of a type that leaves events over, each window completes as many as the planned one.
    """
    windows = 1
    for name, part in plan.by_type.items():
        if part.expected_leftover:
            shrinks = part.events - part.expected_leftover - arrivals.get(name, 0.0)
            if shrinks <= 0:
                return Outlook(None)
            windows = max(windows, 1 + math.ceil(part.expected_leftover / shrinks))
    return Outlook(windows)
