"""The pages Endpoints, with the use of each window, and Compliance: the most calls in any period of a day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import asdict

from rlm.admin import words
from rlm.admin.endpoints import changes_made, endpoint_list, health_beside
from rlm.core.documents import EndpointView, RunStatus
from rlm.core.endpoint import Circuit
from rlm.core.text import counted
from rlm.ledger.compliance import compliance, exceeded, gap
from rlm.web.pages.live import Documents
from rlm.web.pages.now import HEALTHS
from rlm.web.pages.page import Page, Query


def context(documents: Documents, _question: Query) -> Mapping[str, object]:
    """Return the values of the page Endpoints."""
    views = documents.get("endpoints", endpoint_list)
    entries = [{**asdict(view), "beside": health_beside(view), "next": _next(view)} for view in views]
    now = documents.status()
    run = now if isinstance(now, RunStatus) else now.last_record
    groups = {
        name: [entry for entry in entries if entry["kind"] == "endpoint" and name in entry["types"]]
        for name in dict.fromkeys(name for view in views for name in view.types)
    }
    return {
        "groups": groups,
        "budgets": [entry for entry in entries if entry["kind"] == "budget"],
        "summary": _summary(views),
        "calls": {**run.by_endpoint, **run.by_budget} if run else {},
        "of_run": "in this run" if isinstance(now, RunStatus) else "in the last run",
        "changes": documents.get("changes", lambda store: changes_made(store, 20)),
        "healths": HEALTHS,
    }


def _next(view: EndpointView) -> str:
    waits = view.health == Circuit.PAUSED and view.next_slot_seconds is None
    return "when resumed" if waits else words.next_slot(view)


def _summary(views: Sequence[EndpointView]) -> str:
    number = Counter(view.health for view in views)
    states = [f"{number[health]:,} {health}" for health in reversed(Circuit) if number[health]]
    return f"{counted(len(views), 'window')}: {', '.join(states)}" if views else "none is configured"


def compliance_context(documents: Documents, _question: Query) -> Mapping[str, object]:
    """Return the values of Compliance: the calls, fullest first, the rules, and the unknown part."""
    log = documents.get("compliance", lambda store: compliance(store, 86_400.0), 30.0)  # it reads the log of a day
    called = [(name, each) for name, each in log.limited.items() if each.calls]
    called.sort(key=lambda entry: -entry[1].rules[0].most / max(1, entry[1].rules[0].amount))
    return {
        "log": log,
        "called": called,
        "silent": [name for name, each in log.limited.items() if not each.calls],
        "exceeded": exceeded(log),
        "gap": gap(log),
    }


PAGE: Final = Page("/endpoints", "Endpoints", "endpoints.html", context, command="rlm endpoint list", label="Endpoints")
COMPLIANCE: Final = Page(
    "/compliance", "Compliance", "compliance.html", compliance_context, command="rlm compliance", label="Compliance"
)
