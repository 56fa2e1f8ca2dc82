"""The pages of events: waiting ones, failed ones, one explained."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

import msgspec
from msgspec.structs import asdict

from rlm.admin.explain import explain
from rlm.admin.letters import grouped
from rlm.admin.queue import list_waiting, queue_stats
from rlm.admin.whatif import PlanAsk, answer, read_question
from rlm.core.documents import LetterGroup, WaitingList
from rlm.core.item import Reason
from rlm.ledger.store import Store
from rlm.ledger.waiting import WAITING
from rlm.web.pages.live import Documents
from rlm.web.pages.page import ListFilter, Page, Query, address
from rlm.web.parameters import EventsShown, LettersShown

#: Events or letters on a page of a list.
ON_A_PAGE = 50
#: Most seconds of age of a list: it may be long, and all letters are read for theirs.
_LIST_SECONDS = 3.0


def queue_context(documents: Documents, question: Query) -> Mapping[str, object]:
    """Return the values of Queue: how much waits by type, which events, and when they are gone."""
    stats, form = documents.get("queue_stats", queue_stats), ListFilter("/queue", question, EventsShown)
    page = WaitingList(events=(), next=None)
    if not form.fault:
        page = documents.get(
            ("waiting", question.text),
            lambda store: list_waiting(store, form.chosen, ON_A_PAGE, form.after),
            _LIST_SECONDS,
        )
    return {
        "stats": stats,
        "most": max((each.pending for each in stats.by_type.values()), default=0),
        "ahead": documents.get("outlook", outlook, 10.0),
        "form": form,
        "states": WAITING,
        "events": page.events,
        "on": "" if page.next is None else form.address(page.next),
        "first": form.address() if form.after else "",
        "command": f"rlm queue list {ON_A_PAGE}{form.options}",
    }


def outlook(store: Store) -> str:
    """Return in a sentence when the backlog is gone; empty if that is not known."""
    ahead = answer(store, read_question(store.settings, PlanAsk())).forecasts[0].outlook
    return ahead.sentence if ahead else ""


def failures_context(documents: Documents, question: Query) -> Mapping[str, object]:
    """Return the values of Failures: dead letters in groups and one by one."""
    form = ListFilter("/failures", question, LettersShown)

    def read(store: Store) -> tuple[list[LetterGroup], list[Any], int]:
        letters = islice(form.chosen.find(store), form.after, form.after + ON_A_PAGE)
        return grouped(form.chosen.find(store)), [*map(msgspec.json.decode, letters)], store.letters.count()

    groups, letters, total = list[LetterGroup](), list[Any](), 0
    if not form.fault:
        groups, letters, total = documents.get(("letters", question.text), read, _LIST_SECONDS)
    fitting = sum(each.letters for each in groups)
    after = form.after + len(letters)
    types, endpoints = documents.get("names", lambda store: (store.known_types, [*store.settings.endpoints]), 10)
    return {
        "letters": letters,
        "fitting": fitting,
        "total": total,
        "form": form,
        "types": types,
        "endpoints": endpoints,
        "reasons": tuple(Reason),
        "groups": [group(each, groups, form.given) for each in groups[:20]],
        "last": after,
        "older": form.address(after) if after < fitting else "",
        "newer": form.address(max(0, form.after - ON_A_PAGE)) if form.after else "",
        "body": body(form.given),
        "command": f"rlm failed list {ON_A_PAGE}{form.options}",
    }


def body(given: Mapping[str, object]) -> dict[str, object]:
    """Return the filter in the form of `POST /api/failed/retry` and `drop`; all letters without one."""
    return {"filter": given} if given else {"all": True}


def group(shown: LetterGroup, groups: Sequence[LetterGroup], given: Mapping[str, object]) -> dict[str, object]:
    """Return the values of a group: its letters, the address of their list, and the body that its buttons send.

    The body is None if the filter would also match letters of other groups; `among` is the number that it matches.
    """
    fields = {name: getattr(shown, name) for name in ("reason", "endpoint", "type")}
    narrow = {name: value for name, value in fields.items() if value}
    among = sum(each.letters for each in groups if all(getattr(each, name) == value for name, value in narrow.items()))
    chosen = {**given, **{name: [value] for name, value in narrow.items()}}
    order = body(chosen) if among == shown.letters else None
    return {**asdict(shown), "address": address("/failures", chosen), "body": order, "among": among}


def event_context(documents: Documents, question: Query) -> Mapping[str, object]:
    """Return the values of the page of an event, or of all of an item; raise NoSuchRunError if it is unknown."""
    name = question.about
    events = documents.get(("event", name), lambda store: explain(store, name))
    return {"title": name, "events": events, "command": f"rlm explain {shlex.quote(name)}"}


EVENT: Final = Page("/events/{event_id:path}", "An event", "event.html", event_context, command="rlm explain")
PAGES: Final = (
    Page("/queue", "Queue", "queue.html", queue_context, command="rlm queue stats", label="Queue"),
    Page("/failures", "Failures", "failures.html", failures_context, "rlm failed list --grouped", label="Failures"),
    EVENT,
)
