"""The forecast of one case: its plan, which events are left over, and the windows to come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rlm.plan.order import sacrifice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rlm.admin.planning import Arrivals
    from rlm.admin.whatif import Case
    from rlm.ledger.reading.backlog import Backlog
    from rlm.plan import Plan
    from rlm.plan.order import Sacrifice
    from rlm.plan.outlook import Outlook


@dataclass(frozen=True, slots=True)
class Forecast:
    """The plan of one case, which events of each type are left over, and the windows to come if they were asked for.

    `open_run` is the id of an open run, which works on some of what is planned for.
    """

    case: Case
    plan: Plan
    left_over: Mapping[str, Sacrifice]
    outlook: Outlook | None = None
    open_run: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the document of the plan, with the leftovers by priority and the outlook."""
        document = self.plan.as_json() | {
            "start_seconds": round(self.case.gone_seconds, 3),
            "failing": self.case.failing,
            "open_run": self.open_run,
        }
        for name, part in document["by_type"].items():
            chosen = self.left_over[name]
            part["left_over_by_priority"] = {str(priority): number for priority, number in chosen.by_priority.items()}
            part["carried_over_again"] = chosen.carried
        return document | (self.outlook.as_json() if self.outlook else {})

    @property
    def done_seconds(self) -> float:
        """When the last event that fits is answered, counted from now."""
        return self.plan.first_call_seconds + self.plan.forecast_seconds

    @property
    def events(self) -> int:
        """The events planned for."""
        return sum(part.events for part in self.plan.by_type.values())


def forecast_of(case: Case, backlog: Backlog) -> Forecast:
    """Plan a backlog for one case."""
    planned = case.plan(backlog.events)
    left = {
        one.name: sacrifice(planned.by_type[one.name].expected_leftover, backlog.ranks(one.name, one.priority))
        for one in case.types
    }
    return Forecast(case, planned, left, open_run=backlog.run.id if backlog.run else None)


def look_ahead(found: Forecast, backlog: Backlog, arrivals: Arrivals, windows: int) -> Forecast:
    """Add the outlook over the next `windows` windows to a forecast."""
    arriving = arrivals.within(found.case.settings.run.every_seconds)
    return replace(found, outlook=found.case.outlook(backlog.events, arriving, windows))
