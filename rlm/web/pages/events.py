"""The pages of events: waiting ones, failed ones, one explained, and the search for them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rlm.admin.explain import explain, search
from rlm.admin.explain.words import took
from rlm.admin.letters import LetterFilter, letter_page
from rlm.admin.question import PlanAsk, answer, read_question
from rlm.admin.queue import carried_over, queue_stats
from rlm.core.clock import system_clock
from rlm.core.item import Reason
from rlm.ledger import Store
from rlm.ledger.reading.waiting import WAITING, EventFilter, Mark, list_waiting
from rlm.web.pages.live import Documents
from rlm.web.pages.page import Elsewhere, ListFilter, Page, Query, address, event_address, run_address

#: Seconds for which the outlook is shared.
_OUTLOOK_SECONDS = 10.0
#: Events or letters on a page of a list, and the number of largest groups of letters to show.
ON_A_PAGE, GROUPS = 50, 20
#: Most seconds of age of a list: all letters are read for theirs, and that of events may be long and is not live.
WAITING_SECONDS, LETTERS_SECONDS = 3.0, 2.0
#: Most characters of a search text.
_LONGEST = 1000


def queue_context(documents: Documents, question: Query) -> Mapping[str, Any]:
    """Return the values of Queue: how much waits by type, which events, and when they are gone."""
    stats = documents.get("queue_stats", queue_stats)
    asked = ListFilter("/queue", question)
    states = asked.choices("state", [str(one) for one in WAITING])
    wanted = EventFilter(
        types=asked.choices("type", tuple(stats["by_type"])),
        wallet=asked.text("wallet"),
        item=asked.text("item"),
        older_seconds=asked.ago("older-than"),
        states=frozenset(one for one in WAITING if one in states),
    )
    text = question.get("after")
    after = Mark.read(text) if text else None
    if text and after is None:
        asked.faults.append("no page ends there; begin with the first page")

    def find(store: Store) -> dict[str, Any]:
        return list_waiting(store, wanted, ON_A_PAGE, after)

    nothing: dict[str, Any] = {"events": [], "next": None}
    found = nothing if asked.faults else documents.get(("waiting", question.query), find, WAITING_SECONDS)
    return {
        "stats": stats,
        "carried": documents.get("carried_over", carried_over),
        "most": max((one["pending"] for one in stats["by_type"].values()), default=0),
        "ahead": documents.get("outlook", outlook, _OUTLOOK_SECONDS),
        "asked": asked,
        "states": [str(one) for one in WAITING],
        "events": found["events"],
        "on": asked.address(after=found["next"]) if found["next"] else "",
        "first": asked.address() if after else "",
        "command": f"rlm queue list {ON_A_PAGE}{asked.options(after=str(after or ''))}",
    }


def outlook(store: Store) -> str:
    """Return in a sentence when the backlog is gone; empty if that is not known."""
    found = answer(store, read_question(store.settings, PlanAsk())).forecasts[0].outlook
    return found.sentence if found else ""


def failures_context(documents: Documents, question: Query) -> Mapping[str, Any]:
    """Return the values of Failures: dead letters in groups and one by one."""
    asked = ListFilter("/failures", question)
    types, endpoints = documents.get("names", lambda store: (tuple(store.known_types), [*store.settings.endpoints]), 10)
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
    found = nothing if asked.faults else documents.get(("letters", question.query), find, LETTERS_SECONDS)
    last = behind + len(found["letters"])
    return {
        **found,
        "asked": asked,
        "types": types,
        "endpoints": endpoints,
        "reasons": tuple(Reason),
        "sendable": sum(one["sendable"] for one in found["groups"]),
        "groups": [group(one, found["groups"], asked.given) for one in found["groups"][:GROUPS]],
        "more_groups": max(0, len(found["groups"]) - GROUPS),
        "first": behind + 1,
        "last": last,
        "older": asked.address(behind=last) if last < found["fitting"] else "",
        "newer": asked.address(behind=max(0, behind - ON_A_PAGE)) if behind else "",
        "body": body(asked.given),
        "chosen": bool(asked.given),
        "command": f"rlm failed list {ON_A_PAGE}{asked.options()}",
    }


def body(given: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the filter in the form of `POST /api/failed/retry` and `drop`; all letters without one."""
    told = {name: found[0] if name in {"since", "search"} else found for name, found in given.items()}
    return {"filter": told} if told else {"all": True}


def group(
    one: Mapping[str, Any], groups: Sequence[Mapping[str, Any]], filtered: Mapping[str, list[str]]
) -> dict[str, Any]:
    """Return the values of a group: its letters, the address of their list, and the body that its buttons send.

    The body is None if the filter would also match letters of other groups; `among` is the number that it matches.
    """
    narrow = {name: [one[name]] for name in ("reason", "answer", "endpoint", "type") if one[name]}
    given = {**filtered, **narrow}
    among = sum(other["letters"] for other in groups if all(other[name] == value for name, (value,) in narrow.items()))
    alone = among == one["letters"]
    return {**one, "address": address("/failures", given), "body": body(given) if alone else None, "among": among}


def event_context(documents: Documents, question: Query) -> Mapping[str, Any]:
    """Return the values of the page of an event, or of all of an item; raise NoSuchRunError if it is unknown."""
    asked = question.get("event_id")
    found = documents.get(("event", asked), lambda store: explain(store, asked))
    return {"title": asked, "events": [explained(one) for one in found], "command": f"rlm explain {shlex.quote(asked)}"}


def explained(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of an event: its document, and its trail as a timeline."""
    return {
        **one,
        "trail": list(trail(one)),
        "earlier": max(0, one["calls"] - len(one["attempts"])),
        "letters": address("/failures", {"search": [one["letter"]["id"]]}) if one["letter"] else "",
    }


def trail(one: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what happened to an event, in the order of time: each step with its time, its kind, and a text."""
    if one["taken_at"]:
        yield _step(one["taken_at"], "taken", "taken off the audit list", run=one["taken_in"])
    for each in one["attempts"]:
        told = f"attempt {each['attempt']} at {each['endpoint'] or 'an endpoint that is not known'}: {each['answer']}"
        yield _step(each["at"], each["answer"], told, each["text"], run=each["run_id"], took=took(each))
    if letter := one["letter"]:
        yield _step(letter["failed_at"], "letter", f"became a dead letter: {letter['reason']}", letter["detail"])


def _step(at: str, kind: str, told: str, text: str = "", run: str | None = None, took: str = "") -> dict[str, Any]:
    return {"at": at, "kind": kind, "told": told, "text": text, "run": run or "", "took": took}


def search_context(documents: Documents, question: Query) -> Mapping[str, Any]:
    """Return what is found for a text; raise Elsewhere if it is one thing that has its own page."""
    asked = question.get("q").strip()[:_LONGEST]
    found = documents.get(("search", asked), lambda store: search(store, asked))
    if one := place(found):
        raise Elsewhere(one)
    return {
        "asked": asked,
        "found": found,
        "letters": address("/failures", {"search": [asked]}),
        "waiting": address("/queue", {"wallet": [asked]}),
        "command": f"rlm explain {shlex.quote(asked)}" if asked else "rlm explain",
    }


def place(found: Mapping[str, Any]) -> str:
    """Return the address of the only match; empty if there are several, or none."""
    if len(found["runs"]) == 1:
        return run_address(found["runs"][0])
    if len(found["events"]) == 1:
        return event_address(found["events"][0]["event_id"])
    return address("/failures", {"search": [found["letter"]]}) if found["letter"] else ""


PAGES: Final = (
    Page("/queue", "Queue", "queue.html", queue_context, command="rlm queue stats", label="Queue"),
    Page("/failures", "Failures", "failures.html", failures_context, "rlm failed list --grouped", label="Failures"),
    Page("/events/{event_id:path}", "An event", "event.html", event_context, command="rlm explain"),
    Page("/search", "Search", "search.html", search_context, command="rlm explain"),
)
