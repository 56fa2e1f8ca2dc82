"""The page Failures: dead letters grouped and one by one; retried and dropped, those of a filter or each by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlm.admin.letters import LetterFilter, letter_page
from rlm.core.clock import system_clock
from rlm.core.item import Reason
from rlm.core.text import one_line
from rlm.ledger import Store
from rlm.web.pages.live import Documents
from rlm.web.pages.page import ListFilter, Page, Query, address, event_address

#: Letters on a page of the list, and groups that are shown, the largest.
ON_A_PAGE = 50
GROUPS = 20
#: The most characters of a letter's detail; the page of its event has all of it.
DETAIL_WIDTH = 240
#: How old the list may be, seconds: all letters are read for it.
LIST_SECONDS = 2.0


def context(documents: Documents, question: Query) -> Mapping[str, Any]:
    """Return what the page shows."""
    asked = ListFilter("/failures", question)
    types, endpoints = documents.get("names", _names, 10.0)
    chosen = {
        "types": asked.choices("type", types),
        "reasons": asked.choices("reason", tuple(Reason)),
        "endpoints": asked.choices("endpoint", endpoints),
        "answers": frozenset(filter(None, [asked.text("answer")])),
    }
    since, text, behind = asked.ago("since"), asked.text("search"), asked.number("behind")

    def find(store: Store) -> dict[str, Any]:
        since_time = since and system_clock.now() - since
        return letter_page(store, LetterFilter(**chosen, since=since_time, text=text), ON_A_PAGE, behind)

    nothing: dict[str, Any] = {"letters": [], "groups": [], "fitting": 0, "total": 0}
    found = nothing if asked.faults else documents.get(("letters", question.query), find, LIST_SECONDS)
    last = behind + len(found["letters"])
    return {
        "asked": asked,
        "types": types,
        "endpoints": endpoints,
        "reasons": tuple(Reason),
        "total": found["total"],
        "fitting": found["fitting"],
        "sendable": sum(one["sendable"] for one in found["groups"]),
        "groups": [group(one, found["groups"], asked.given) for one in found["groups"][:GROUPS]],
        "more_groups": max(0, len(found["groups"]) - GROUPS),
        "letters": [shown(one) for one in found["letters"]],
        "first": behind + 1,
        "last": last,
        "older": asked.address(behind=last) if last < found["fitting"] else "",
        "newer": asked.address(behind=max(0, behind - ON_A_PAGE)) if behind else "",
        "body": body(asked.given),
        "chosen": bool(asked.given),
        "command": f"rlm failed list {ON_A_PAGE}{asked.options()}",
    }


def _names(store: Store) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the types and endpoints that letters may be of."""
    return tuple(store.known_types), tuple(store.settings.endpoints)


def body(given: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the filter as `POST /api/failed/retry` and `drop` take it; all letters without one."""
    told = {name: found[0] if name in {"since", "search"} else found for name, found in given.items()}
    return {"filter": told} if told else {"all": True}


def group(
    one: Mapping[str, Any], groups: Sequence[Mapping[str, Any]], filtered: Mapping[str, list[str]]
) -> dict[str, Any]:
    """Return what is shown of a group: its letters, where they are listed, and what a button about them sends.

    That is None where the filter would match the letters of other groups as well: `among` so many it stands.
    """
    narrow = {name: [one[name]] for name in ("reason", "answer", "endpoint", "type") if one[name]}
    given = {**filtered, **narrow}
    among = sum(other["letters"] for other in groups if all(other[name] == value for name, (value,) in narrow.items()))
    alone = among == one["letters"]
    return {**one, "address": address("/failures", given), "body": body(given) if alone else None, "among": among}


def shown(letter: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is shown of a letter."""
    event = letter["event_id"]
    return {
        **letter,
        "address": event_address(event) if event else "",
        "detail": one_line(letter.get("detail", ""), DETAIL_WIDTH),
        "body": {"ids": [letter["id"]]},
    }


PAGE = Page("/failures", "Failures", "failures.html", context, command="rlm failed list --grouped", label="Failures")
