"""The page Endpoints: each window as what it is, health and why, pause, resume and limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from markupsafe import Markup

from rlm.admin import report, words
from rlm.admin.endpoints import changes_made, endpoint_list, health_beside
from rlm.core.text import counted, span
from rlm.core.window import Circuit
from rlm.web.pages import plots
from rlm.web.pages.live import Documents
from rlm.web.pages.now import HEALTHS
from rlm.web.pages.page import Page, Query

#: Changes shown, the newest.
MOST_CHANGES: Final = 20
#: What calls took is read less often, seconds: that takes longer the more there were.
_MEASURED_SECONDS = 4.0


def context(documents: Documents, _question: Query) -> Mapping[str, Any]:
    """Return what the page shows."""
    entries = [
        {**one, "beside": health_beside(one), "next": _next(one), "picture": window_of(one)}
        for one in documents.get("drawn endpoints", lambda store: endpoint_list(store, drawn=True))
    ]
    found = documents.status()
    measured = documents.get("measured", report.last_measured, _MEASURED_SECONDS)
    groups = {
        name: [one for one in entries if one["kind"] == "endpoint" and name in one["types"]]
        for name in dict.fromkeys(name for one in entries for name in one["types"])
    }
    return {
        "groups": groups,
        "budgets": [one for one in entries if one["kind"] == "budget"],
        "told": _told(entries),
        "calls": {} if measured is None else measured["by_endpoint"] | measured.get("by_budget", {}),
        "of_run": "in this run" if words.is_open(found) else "in the last run",
        "changes": documents.get("changes", lambda store: changes_made(store, MOST_CHANGES)),
        "healths": HEALTHS,
    }


def _next(entry: Mapping[str, Any]) -> str:
    """Return when its next slot comes."""
    waits = entry["health"] == Circuit.PAUSED and entry["next_slot_seconds"] is None
    return "when resumed" if waits else words.next_slot(entry)


def _told(entries: list[dict[str, Any]]) -> str:
    """Return how many endpoints there are, and how many have each health."""
    number = {health: sum(one["health"] == health for one in entries) for health in Circuit}
    states = [f"{number[health]:,} {health}" for health in reversed(Circuit) if number[health]]
    return f"{counted(sum(number.values()), 'window')}: {', '.join(states)}" if entries else "none is configured"


def window_of(entry: Mapping[str, Any]) -> Markup:
    """Return the picture of a window, from its entry in the list: its calls, and until when no call goes."""
    period = entry["window"]["period_seconds"]
    rests = entry["circuit_seconds"]
    until = entry["next_slot_seconds"] if rests is None else rests
    said = f"{counted(entry['used'], 'call')} in the last {span(period)}, of {entry['allowed']:,} allowed; "
    said += "the next slot is free now" if until == 0 else f"no slot for {span(until)}" if until else "no slot"
    ahead = period if until is None else until  # without an end it goes on
    kind = "wait" if entry["health"] in {Circuit.OK, Circuit.FULL} else HEALTHS[entry["health"]]
    return plots.strip(said, period, entry["window"]["ages_seconds"], (ahead, kind) if ahead else None)


PAGE: Final = Page("/endpoints", "Endpoints", "endpoints.html", context, command="rlm endpoint list", label="Endpoints")
