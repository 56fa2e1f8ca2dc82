"""The pages of events: waiting ones, failed ones, one explained."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import asdict

from rlm.admin.explain import explain
from rlm.admin.letters import DeadLetter, LetterFilter, LetterPage, is_unsendable, letter_page
from rlm.admin.queue import list_waiting, queue_stats
from rlm.admin.whatif import PlanAsk, answer, read_question
from rlm.core.clock import system_clock
from rlm.core.documents import EventView, LetterGroup, WaitingList
from rlm.core.item import Reason
from rlm.ledger.reading.waiting import WAITING, EventFilter
from rlm.ledger.store import Store
from rlm.web.pages.live import Documents
from rlm.web.pages.page import ListFilter, Page, Query, address

#: Events or letters on a page of a list, and the number of largest groups of letters to show.
ON_A_PAGE, GROUPS = 50, 20
#: Most seconds of age of a list: it may be long, and all letters are read for theirs.
_LIST_SECONDS = 3.0


def queue_context(documents: Documents, question: Query) -> Mapping[str, object]:
    """Return the values of Queue: how much waits by type, which events, and when they are gone."""
    stats = documents.get("queue_stats", queue_stats)
    form = ListFilter("/queue", question)
    states = form.choices("state", [str(state) for state in WAITING])
    chosen = EventFilter(
        types=form.choices("type", tuple(stats.by_type)),
        wallet=form.text("wallet"),
        item=form.text("item"),
        older_seconds=form.ago("older-than"),
        states=frozenset(state for state in WAITING if state in states),
    )
    after = form.place("after")
    page = WaitingList(events=(), next=None)
    if not form.faults:
        page = documents.get(
            ("waiting", question.text), lambda store: list_waiting(store, chosen, ON_A_PAGE, after), _LIST_SECONDS
        )
    return {
        "stats": stats,
        "most": max((each.pending for each in stats.by_type.values()), default=0),
        "ahead": documents.get("outlook", outlook, 10.0),
        "form": form,
        "states": [str(state) for state in WAITING],
        "events": page.events,
        "on": "" if page.next is None else form.address(after=page.next),
        "first": form.address() if after else "",
        "command": f"rlm queue list {ON_A_PAGE}{form.options}",
    }


def outlook(store: Store) -> str:
    """Return in a sentence when the backlog is gone; empty if that is not known."""
    ahead = answer(store, read_question(store.settings, PlanAsk())).forecasts[0].outlook
    return ahead.sentence if ahead else ""


def failures_context(documents: Documents, question: Query) -> Mapping[str, object]:
    """Return the values of Failures: dead letters in groups and one by one."""
    form = ListFilter("/failures", question)
    types, endpoints = documents.get("names", lambda store: (tuple(store.known_types), [*store.settings.endpoints]), 10)
    chosen = LetterFilter(
        types=form.choices("type", types),
        reasons=form.choices("reason", tuple(Reason)),
        endpoints=form.choices("endpoint", endpoints),
        answers=frozenset(filter(None, [form.text("answer")])),
        text=form.text("search"),
    )
    since, behind = form.ago("since"), form.place("behind")

    def read(store: Store) -> tuple[LetterPage, list[dict[str, object]]]:
        page = letter_page(store, replace(chosen, since=since and system_clock.now() - since), ON_A_PAGE, behind)
        return page, [
            {**msgspec.json.decode(raw), "sendable": not is_unsendable(store, DeadLetter.read(raw))}
            for raw in page.letters
        ]

    page, letters = LetterPage([], [], 0, 0), list[dict[str, object]]()
    if not form.faults:
        page, letters = documents.get(("letters", question.text), read, _LIST_SECONDS)
    last = behind + len(letters)
    return {
        "letters": letters,
        "fitting": page.fitting,
        "total": page.total,
        "form": form,
        "types": types,
        "endpoints": endpoints,
        "reasons": tuple(Reason),
        "sendable": sum(each.sendable for each in page.groups),
        "groups": [group(each, page.groups, form.given) for each in page.groups[:GROUPS]],
        "first": behind + 1,
        "last": last,
        "older": form.address(behind=last) if last < page.fitting else "",
        "newer": form.address(behind=max(0, behind - ON_A_PAGE)) if behind else "",
        "body": body(form.given),
        "command": f"rlm failed list {ON_A_PAGE}{form.options}",
    }


def body(given: Mapping[str, list[str]]) -> dict[str, object]:
    """Return the filter in the form of `POST /api/failed/retry` and `drop`; all letters without one."""
    single = {"since", "search"}
    chosen = {name: values[0] if name in single else values for name, values in given.items()}
    return {"filter": chosen} if chosen else {"all": True}


def group(shown: LetterGroup, groups: Sequence[LetterGroup], given: Mapping[str, list[str]]) -> dict[str, object]:
    """Return the values of a group: its letters, the address of their list, and the body that its buttons send.

    The body is None if the filter would also match letters of other groups; `among` is the number that it matches.
    """
    fields = {name: getattr(shown, name) for name in ("reason", "answer", "endpoint", "type")}
    narrow = {name: value for name, value in fields.items() if value}
    among = sum(each.letters for each in groups if all(getattr(each, name) == value for name, value in narrow.items()))
    chosen = {**given, **{name: [value] for name, value in narrow.items()}}
    order = body(chosen) if among == shown.letters else None
    return {**asdict(shown), "address": address("/failures", chosen), "body": order, "among": among}


def event_context(documents: Documents, question: Query) -> Mapping[str, object]:
    """Return the values of the page of an event, or of all of an item; raise NoSuchRunError if it is unknown."""
    name = question.about
    views = documents.get(("event", name), lambda store: explain(store, name))
    events = [(view, list(trail(view)), max(0, view.calls - len(view.attempts))) for view in views]
    return {"title": name, "events": events, "command": f"rlm explain {shlex.quote(name)}"}


class Step(NamedTuple):
    """Something that happened to an event: its time, what, and a text."""

    at: str
    what: str
    text: str = ""
    run: str = ""


def trail(view: EventView) -> Iterator[Step]:
    """Yield what happened to an event, in the order of time."""
    if view.taken_at:
        yield Step(view.taken_at, "taken off the audit list")
    for call in view.attempts:
        where = call.endpoint or "an endpoint that is not known"
        took = "" if call.seconds is None else f" after {call.seconds:.2f} s"
        what = f"attempt {call.attempt} at {where}: {call.answer}{took}"
        yield Step(call.at, what, call.text, call.run_id)
    if letter := view.letter:
        yield Step(letter.failed_at, f"became a dead letter: {letter.reason}", letter.detail)


EVENT: Final = Page("/events/{event_id:path}", "An event", "event.html", event_context, command="rlm explain")
PAGES: Final = (
    Page("/queue", "Queue", "queue.html", queue_context, command="rlm queue stats", label="Queue"),
    Page("/failures", "Failures", "failures.html", failures_context, "rlm failed list --grouped", label="Failures"),
    EVENT,
)
