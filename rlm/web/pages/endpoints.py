"""The pages Endpoints, with the use of each window, and Compliance: the most calls in any period of a day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import asdict

from rlm.admin import words
from rlm.admin.endpoints import changes_made, endpoint_list, health_beside
from rlm.core.documents import EndpointView, RunStatus
from rlm.core.text import counted
from rlm.core.window import Circuit
from rlm.ledger.reading.compliance import compliance, exceeded, gap
from rlm.web.pages.live import Documents
from rlm.web.pages.now import HEALTHS
from rlm.web.pages.page import Page, Query

#: The number of newest changes to show.
MOST_CHANGES: Final = 20
#: Seconds that Compliance looks back.
SINCE_SECONDS = 86_400.0
_LONG = f"{SINCE_SECONDS / 3600:g} h"
#: Seconds for which the result is shared: it reads the whole log of a day.
_SHARED_SECONDS = 30.0


def context(documents: Documents, _question: Query) -> Mapping[str, object]:
    """Return the values of the page Endpoints."""
    views = documents.get("endpoints", endpoint_list)
    entries = [{**asdict(view), "beside": health_beside(view), "next": _next(view)} for view in views]
    found = documents.status()
    run = found if isinstance(found, RunStatus) else found.last_record
    groups = {
        name: [entry for entry in entries if entry["kind"] == "endpoint" and name in entry["types"]]
        for name in dict.fromkeys(name for view in views for name in view.types)
    }
    return {
        "groups": groups,
        "budgets": [one for one in entries if one["kind"] == "budget"],
        "told": _told(views),
        "calls": {**run.by_endpoint, **run.by_budget} if run else {},
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


def compliance_context(documents: Documents, _question: Query) -> Mapping[str, object]:
    """Return the values of Compliance: the calls, fullest first, the rules, and the unknown part."""
    found = documents.get("compliance", lambda store: compliance(store, SINCE_SECONDS), _SHARED_SECONDS)
    called = [(name, each) for name, each in found.limited.items() if each.calls]
    called.sort(key=lambda entry: -entry[1].rules[0].most / max(1, entry[1].rules[0].amount))
    return {
        "found": found,
        "called": called,
        "silent": [name for name, each in found.limited.items() if not each.calls],
        "exceeded": exceeded(found),
        "gap": gap(found),
        "long": _LONG,
    }


PAGE: Final = Page("/endpoints", "Endpoints", "endpoints.html", context, command="rlm endpoint list", label="Endpoints")
COMPLIANCE: Final = Page(
    "/compliance", "Compliance", "compliance.html", compliance_context, command="rlm compliance", label="Compliance"
)
