"""The pages Endpoints, with the use of each window, and Compliance: the most calls in any period of a day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from rlm.admin import report, words
from rlm.admin.endpoints import changes_made, compliance, endpoint_list, exceeded, gap
from rlm.core.documents import RunStatus
from rlm.core.endpoint import Circuit
from rlm.core.text import counted
from rlm.ledger.store import Store
from rlm.web.pages.page import Page, Query


def _endpoints(store: Store, _question: Query) -> Mapping[str, object]:
    views, now = endpoint_list(store), report.now(store)
    run = words.latest(now)
    endpoints = [view for view in views if view.kind == "endpoint"]
    number = Counter(view.health for view in views)
    states = [f"{number[health]:,} {health}" for health in reversed(Circuit) if number[health]]
    return {
        "groups": {
            name: [view for view in endpoints if name in view.types]
            for name in dict.fromkeys(name for view in endpoints for name in view.types)
        },
        "budgets": [(view, counted(len(view.types), "type")) for view in views if view.kind == "budget"],
        "summary": f"{counted(len(views), 'window')}: {', '.join(states)}" if views else "none is configured",
        "calls": {**run.by_endpoint, **run.by_budget} if run else {},
        "of_run": "in this run" if isinstance(now, RunStatus) else "in the last run",
        "changes": changes_made(store)[:20],
    }


def _compliance(store: Store, _question: Query) -> Mapping[str, object]:
    log = compliance(store, 86_400.0)
    called = [(name, each) for name, each in log.by_endpoint.items() if each.calls]
    called.sort(key=lambda entry: -entry[1].rules[0].most / max(1, entry[1].rules[0].amount))  # the fullest first
    silent = [name for name, each in log.by_endpoint.items() if not each.calls]
    return {"log": log, "called": called, "silent": silent, "exceeded": exceeded(log), "gap": gap(log)}


PAGES: Final = (
    Page("/endpoints", "Endpoints", "endpoints.html", _endpoints, "rlm endpoint list", "Endpoints"),
    Page("/compliance", "Compliance", "compliance.html", _compliance, "rlm compliance", "Compliance"),
)
