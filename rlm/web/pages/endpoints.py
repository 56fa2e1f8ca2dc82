"""The pages Endpoints, with the use of each window, and Compliance: the most calls in any period of a day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup
from msgspec.structs import asdict

from rlm.admin import report, words
from rlm.admin.endpoints import changes_made, endpoint_list, health_beside
from rlm.core.documents import EndpointView, LimitedCompliance, RunStatus
from rlm.core.text import counted
from rlm.core.window import Circuit
from rlm.ledger.reading.compliance import compliance, exceeded, gap
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
    views = documents.get("endpoints", endpoint_list)
    entries = [{**asdict(view), "beside": health_beside(view), "next": _next(view)} for view in views]
    found = documents.status()
    measured = documents.get("measured", report.last_measured, _MEASURED_SECONDS)
    groups = {
        name: [entry for entry in entries if entry["kind"] == "endpoint" and name in entry["types"]]
        for name in dict.fromkeys(name for view in views for name in view.types)
    }
    return {
        "groups": groups,
        "budgets": [one for one in entries if one["kind"] == "budget"],
        "told": _told(views),
        "calls": {**measured.by_endpoint, **measured.by_budget} if measured else {},
        "of_run": "in this run" if isinstance(found, RunStatus) else "in the last run",
        "changes": documents.get("changes", lambda store: changes_made(store, MOST_CHANGES)),
        "healths": HEALTHS,
    }


def _next(view: EndpointView) -> str:
    waits = view.health == Circuit.PAUSED and view.next_slot_seconds is None
    return "when resumed" if waits else words.next_slot(view)


def _told(views: Sequence[EndpointView]) -> str:
    number = Counter(view.health for view in views)
    states = [f"{number[health]:,} {health}" for health in reversed(Circuit) if number[health]]
    return f"{counted(len(views), 'window')}: {', '.join(states)}" if views else "none is configured"


def compliance_context(documents: Documents, _question: Query) -> Mapping[str, Any]:
    """Return the values of Compliance: the calls, fullest first, the rules, and the unknown part.

    A strip shows the first rule of the limit in force; it may exceed it while an earlier limit was in force.
    """
    found = documents.get("compliance", lambda store: compliance(store, SINCE_SECONDS, PARTS), _SHARED_SECONDS)
    called = [(name, each) for name, each in found.limited.items() if each.calls]
    called.sort(key=lambda entry: -entry[1].rules[0].most / max(1, entry[1].rules[0].amount))
    return {
        "found": found,
        "called": called,
        "silent": [name for name, each in found.limited.items() if not each.calls],
        "exceeded": exceeded(found),
        "gap": gap(found),
        "strip": limit_strip,
        "long": _LONG,
    }


def limit_strip(name: str, limited: LimitedCompliance) -> Markup:
    """Return the course of an endpoint or budget against its limit."""
    rule, course = limited.rules[0], limited.course
    most = rule.amount
    label = f"{name}: at most {rule.most:,} of {most:,} calls in any period of the last day"
    ends = ((0.0, f"{_LONG} ago"), (float(PARTS), "now"))
    axes = plots.Axes(PARTS, max(most, *course) * 1.05, ends, ((most, f"{most:,}"),))
    calls = plots.Line([*enumerate(course), (PARTS, course[-1])], "measured", filled=True)
    return plots.curve(label, axes, [calls, plots.Line([(0, most), (PARTS, most)], "most")], height=100)


PAGE: Final = Page("/endpoints", "Endpoints", "endpoints.html", context, command="rlm endpoint list", label="Endpoints")
COMPLIANCE: Final = Page(
    "/compliance", "Compliance", "compliance.html", compliance_context, command="rlm compliance", label="Compliance"
)
