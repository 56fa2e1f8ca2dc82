"""The pages Endpoints, with the use of each window, and Compliance: the most calls in any period of a day."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from markupsafe import Markup

from rlm.admin import report, words
from rlm.admin.endpoints import changes_made, endpoint_list, health_beside
from rlm.core.text import counted
from rlm.core.window import Circuit
from rlm.ledger.reading.compliance import compliance, exceeded, gap, rules
from rlm.web.pages import plots
from rlm.web.pages.live import Documents
from rlm.web.pages.now import HEALTHS
from rlm.web.pages.page import Page, Query

#: The number of newest changes to show.
MOST_CHANGES: Final = 20
#: Durations of calls are read less often, seconds, because reading takes longer the more calls there are.
_MEASURED_SECONDS = 4.0
#: Seconds that Compliance looks back, and parts of that time in a picture, a quarter of an hour each.
SINCE_SECONDS, PARTS = 86_400.0, 96
_LONG = f"{SINCE_SECONDS / 3600:g} h"
#: Seconds for which the result is shared: it reads the whole log of a day.
_SHARED_SECONDS = 30.0


def context(documents: Documents, _question: Query) -> Mapping[str, Any]:
    """Return the values of the page Endpoints."""
    entries = [
        {**one, "beside": health_beside(one), "next": _next(one)} for one in documents.get("endpoints", endpoint_list)
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
    waits = entry["health"] == Circuit.PAUSED and entry["next_slot_seconds"] is None
    return "when resumed" if waits else words.next_slot(entry)


def _told(entries: list[dict[str, Any]]) -> str:
    number = {health: sum(one["health"] == health for one in entries) for health in Circuit}
    states = [f"{number[health]:,} {health}" for health in reversed(Circuit) if number[health]]
    return f"{counted(sum(number.values()), 'window')}: {', '.join(states)}" if entries else "none is configured"


def compliance_context(documents: Documents, _question: Query) -> Mapping[str, Any]:
    """Return the values of Compliance: the calls, fullest first, the rules, and the unknown part.

    A strip shows the first rule of the limit in force; it may exceed it while an `earlier` limit was in force.
    """
    found = _found(documents)
    called = {
        name: {
            **one["rules"][0],
            "calls": one["calls"],
            "course": one["course"],
            "earlier": [rule["limit"] for rule in one["rules"] if not rule["in_force"]],
        }
        for name, one in {**found["by_endpoint"], **found["by_budget"]}.items()
    }
    fullest = sorted(called.items(), key=lambda one: one[1]["amount"] and -one[1]["most"] / one[1]["amount"])
    return {
        "found": found,
        "called": [(name, one) for name, one in fullest if one["calls"]],
        "silent": [name for name, one in called.items() if not one["calls"]],
        "rules": [one for one in rules(found) if one["calls"]],
        "exceeded": exceeded(found),
        "gap": gap(found),
        "strip": limit_strip,
        "long": _LONG,
    }


def limit_strip(name: str, one: Mapping[str, Any]) -> Markup:
    """Return the course of an endpoint or budget against its limit."""
    most, course = one["amount"], one["course"]
    label = f"{name}: at most {one['most']:,} of {most:,} calls in any period of the last day"
    ends = ((0.0, f"{_LONG} ago"), (float(PARTS), "now"))
    axes = plots.Axes(PARTS, max(most, *course) * 1.05, ends, ((most, f"{most:,}"),))
    calls = plots.Line([*enumerate(course), (PARTS, course[-1])], "measured", filled=True)
    return plots.curve(label, axes, [calls, plots.Line([(0, most), (PARTS, most)], "most")], height=100)


def _found(documents: Documents) -> Mapping[str, Any]:
    return documents.get("compliance", lambda store: compliance(store, SINCE_SECONDS, PARTS), _SHARED_SECONDS)


PAGE: Final = Page("/endpoints", "Endpoints", "endpoints.html", context, command="rlm endpoint list", label="Endpoints")
COMPLIANCE: Final = Page(
    "/compliance", "Compliance", "compliance.html", compliance_context, command="rlm compliance", label="Compliance"
)
