"""The page Now: will it be done in time, what will be left, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm.admin import words
from rlm.admin.verdict import verdict
from rlm.core.run import State
from rlm.web.pages.page import Page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rlm.web.pages.documents import Documents
    from rlm.web.pages.page import Question

#: The phases of a run as the strip shows them, each with its word there.
PHASES = {State.DRAINING: "drain", State.PLANNING: "plan", State.RUNNING: "run", State.FINISHING: "finish"}


def context(documents: Documents, _question: Question) -> Mapping[str, Any]:
    """Return what the page shows."""
    found = documents.status()
    is_open = words.is_open(found)
    return {"found": found, "is_open": is_open, "verdict": verdict(found), "phases": PHASES}


PAGE = Page("/", "Now", "now.html", context, command="rlm status --follow", label="Now")
