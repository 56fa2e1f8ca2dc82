"""The page Endpoints: each window as what it is, health and why, pause, resume and limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm.admin.endpoints import endpoint_list
from rlm.web.pages.page import Page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rlm.web.pages.documents import Documents
    from rlm.web.pages.page import Question


def context(documents: Documents, _question: Question) -> Mapping[str, Any]:
    """Return what the page shows."""
    return {"endpoints": documents.get("endpoints", endpoint_list)}


PAGE = Page("/endpoints", "Endpoints", "endpoints.html", context, command="rlm endpoint list", label="Endpoints")
