"""The page Queue: how much waits, by type, and which events those are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm.admin.queue import carried_over, queue_stats
from rlm.ledger.reading.waiting import WAITING, EventFilter, Mark, list_waiting
from rlm.web.pages.filters import ListFilter, event_address
from rlm.web.pages.outlook import outlook_of
from rlm.web.pages.page import Page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rlm.ledger import Store
    from rlm.web.pages.documents import Documents
    from rlm.web.pages.page import Query

#: Events on a page of the list.
ON_A_PAGE = 50
#: How old the list may be, seconds: it may be long, and it is not live.
LIST_SECONDS = 3.0


def context(documents: Documents, question: Query) -> Mapping[str, Any]:
    """Return what the page shows."""
    stats = documents.get("queue_stats", queue_stats)
    asked = ListFilter("/queue", question)
    wanted = _filter(asked, tuple(stats["by_type"]))
    after = _mark(asked, question.get("after"))

    def find(store: Store) -> dict[str, Any]:
        return list_waiting(store, wanted, ON_A_PAGE, after)

    nothing: dict[str, Any] = {"events": [], "next": None}
    found = nothing if asked.faults else documents.get(("waiting", question.query), find, LIST_SECONDS)
    return {
        "stats": stats,
        "carried": documents.get("carried_over", carried_over),
        "most": max((one["pending"] for one in stats["by_type"].values()), default=0),
        "ahead": outlook_of(documents),
        "asked": asked,
        "states": [str(one) for one in WAITING],
        "events": [{**one, "address": event_address(one["event_id"])} for one in found["events"]],
        "on": asked.address(after=found["next"]) if found["next"] else "",
        "first": asked.address() if after else "",
        "command": f"rlm queue list {ON_A_PAGE}{asked.options(after=str(after or ''))}",
    }


def _filter(asked: ListFilter, types: tuple[str, ...]) -> EventFilter:
    states = asked.choices("state", [str(one) for one in WAITING])
    return EventFilter(
        types=asked.choices("type", types),
        wallet=asked.text("wallet"),
        item=asked.text("item"),
        older_seconds=asked.ago("older-than"),
        states=frozenset(one for one in WAITING if one in states),
    )


def _mark(asked: ListFilter, text: str) -> Mark | None:
    """Return where the list goes on; a fault if no page ended there."""
    mark = Mark.read(text) if text else None
    if text and mark is None:
        asked.faults.append("no page ends there; begin with the first")
    return mark


PAGE = Page("/queue", "Queue", "queue.html", context, command="rlm queue stats", label="Queue")
