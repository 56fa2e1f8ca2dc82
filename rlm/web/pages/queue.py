"""The page Queue: how much waits, by type, and which events those are; and how the leftovers develop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlm.admin.planning import start_seconds
from rlm.admin.queue import carried_over, queue_stats
from rlm.admin.whatif import outlook_now
from rlm.ledger import Store
from rlm.ledger.reading.waiting import WAITING, EventFilter, Mark, list_waiting
from rlm.plan.outlook import Outlook
from rlm.web.pages.live import Documents
from rlm.web.pages.page import ListFilter, Page, Query, event_address
from rlm.web.pages.plots import Column

#: Windows to look ahead.
WINDOWS = 20
#: Nothing, between columns that belong together and the next of these.
GAP = Column("", ())
#: The classes of columns: of what is, and of what might be.
KINDS = ("left", "busy")
#: How long an outlook is shared, seconds.
_SHARED_SECONDS = 10.0
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


def outlook_of(documents: Documents) -> Mapping[str, Any] | None:
    """Return what the macro `outlook` of parts.html draws; None where no whole window is on record."""
    return documents.get("outlook", _look, _SHARED_SECONDS)


def _look(store: Store) -> Mapping[str, Any] | None:
    found = outlook_now(store, start_seconds(store), WINDOWS)
    return outlook_values(found) if found else None


def outlook_values(*found: Outlook) -> Mapping[str, Any]:
    """Return what the macro draws of an outlook, or of today's and the one of what might be."""
    return {
        "verdicts": [one.verdict for one in found],
        "columns": _columns(found) if any(one.leftover for each in found for one in each.windows) else [],
        "windows": max(len(one.windows) for one in found),
        "arriving": sum(found[-1].arrivals.values()),
    }


def _columns(found: Sequence[Outlook]) -> Sequence[Column]:
    """Return columns for each window: what it leaves over, today and beside it as it might be."""
    drawn = []
    for at in range(max(len(one.windows) for one in found)):
        for name, kind, one in zip(("", "what if ") if len(found) > 1 else ("",), KINDS, found, strict=False):
            ahead = one.windows[at] if at < len(one.windows) else None
            left, of = (ahead.leftover, sum(ahead.events.values())) if ahead else (0, 0)
            drawn.append(Column(f"window {at + 1}: {name}{left:,} of {of:,} left over", [(left, kind)]))
        drawn += [GAP] * (len(found) - 1)
    return drawn


PAGE = Page("/queue", "Queue", "queue.html", context, command="rlm queue stats", label="Queue")
