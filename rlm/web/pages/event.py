"""The pages of one event explained, and of the search that leads there."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from rlm.admin.explain import explain, search
from rlm.admin.explain.words import took
from rlm.web.pages.live import Documents
from rlm.web.pages.page import Elsewhere, Page, Query, address, event_address, run_address

#: The most characters of what can be searched for.
_LONGEST = 1000


def context(documents: Documents, question: Query) -> Mapping[str, Any]:
    """Return what the page of an event, or of all events of an item, shows.

    Raises:
        NoSuchRunError: no such event is known.
    """
    asked = question.get("event_id")
    found = documents.get(("event", asked), lambda store: explain(store, asked))
    return {"title": asked, "events": [shown(one) for one in found], "command": f"rlm explain {shlex.quote(asked)}"}


def shown(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is shown of an event: its document, and its trail as a line of time."""
    return {
        **one,
        "address": event_address(one["event_id"]),
        "trail": trail(one),
        "earlier": max(0, one["calls"] - len(one["attempts"])),
        "letters": address("/failures", {"search": [one["letter"]["id"]]}) if one["letter"] else "",
    }


def trail(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what happened to an event, in the order of time: each step with its time, its kind, and in words."""
    steps: list[dict[str, Any]] = []
    if one["taken_at"]:
        in_run = one["taken_in"]
        steps.append(_step(one["taken_at"], "taken", "taken off the audit list", run=in_run))
    for each in one["attempts"]:
        told = f"attempt {each['attempt']} at {each['endpoint'] or 'an endpoint that is not known'}: {each['answer']}"
        steps.append(_step(each["at"], each["answer"], told, each["text"], run=each["run_id"], took=took(each)))
    if letter := one["letter"]:
        steps.append(
            _step(letter["failed_at"], "letter", f"became a dead letter: {letter['reason']}", letter["detail"])
        )
    return steps


def _step(at: str, kind: str, told: str, text: str = "", run: str | None = None, took: str = "") -> dict[str, Any]:
    return {
        "at": at,
        "kind": kind,
        "told": told,
        "text": text,
        "run": run or "",
        "run_address": run_address(run) if run else "",
        "took": took,
    }


def search_context(documents: Documents, question: Query) -> Mapping[str, Any]:
    """Return what is found for a text, where that is more than one thing.

    Raises:
        Elsewhere: it is one run or one event, which has a page.
    """
    asked = question.get("q").strip()[:_LONGEST]
    found = documents.get(("search", asked), lambda store: search(store, asked))
    if one := place(found):
        raise Elsewhere(one)
    wallet = found["wallet"]
    return {
        "asked": asked,
        "found": found,
        "runs": [(one, run_address(one)) for one in found["runs"]],
        "events": [(one, event_address(one["event_id"])) for one in found["events"]],
        "of_wallet": [
            {**one, "address": event_address(one["event_id"]) if one["event_id"] else ""}
            for one in (wallet["found"] if wallet else ())
        ],
        "letters": address("/failures", {"search": [asked]}),
        "waiting": address("/queue", {"wallet": [asked]}),
        "command": f"rlm explain {shlex.quote(asked)}" if asked else "rlm explain",
    }


def place(found: Mapping[str, Any]) -> str:
    """Return the address of what was found if it is one thing; empty if it is several, or nothing."""
    if len(found["runs"]) == 1:
        return run_address(found["runs"][0])
    if len(found["events"]) == 1:
        return event_address(found["events"][0]["event_id"])
    return address("/failures", {"search": [found["letter"]]}) if found["letter"] else ""


PAGES = (
    Page("/events/{event_id:path}", "An event", "event.html", context, command="rlm explain"),
    Page("/search", "Search", "search.html", search_context, command="rlm explain"),
)
