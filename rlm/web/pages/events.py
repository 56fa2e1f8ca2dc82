"""The pages of events: waiting ones, failed ones, one explained, and the search for them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import asdict

from rlm.admin.explain import explain
from rlm.admin.letters import DeadLetter, LetterFilter, LetterPage, is_unsendable, letter_page
from rlm.admin.queue import list_waiting, queue_stats
from rlm.admin.report import runs_beginning
from rlm.admin.whatif import PlanAsk, answer, read_question
from rlm.core.clock import system_clock
from rlm.core.documents import EventView, LetterGroup, WaitingList
from rlm.core.errors import NoSuchRunError
from rlm.core.item import Reason
from rlm.ledger.reading.waiting import WAITING, EventFilter
from rlm.ledger.store import Store
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
#: Fewest characters that can be the prefix of a run's id, a date; and most runs to name.
_SHORTEST, _MOST_RUNS = len("20261125"), 20

#: A page of dead letters, and its letters decoded, each with whether a retry may succeed.
_Letters: TypeAlias = tuple[LetterPage, list[tuple[dict[str, object], bool]]]


def queue_context(documents: Documents, question: Query) -> Mapping[str, object]:
    """Return the values of Queue: how much waits by type, which events, and when they are gone."""
    stats = documents.get("queue_stats", queue_stats)
    asked = ListFilter("/queue", question)
    states = asked.choices("state", [str(one) for one in WAITING])
    chosen = EventFilter(
        types=asked.choices("type", tuple(stats.by_type)),
        wallet=asked.text("wallet"),
        item=asked.text("item"),
        older_seconds=asked.ago("older-than"),
        states=frozenset(one for one in WAITING if one in states),
    )
    after = asked.number("after")

    def find(store: Store) -> WaitingList:
        return list_waiting(store, chosen, ON_A_PAGE, after)

    page = WaitingList(events=(), next=None)
    if not asked.faults:
        page = documents.get(("waiting", question.query), find, WAITING_SECONDS)
    return {
        "stats": stats,
        "most": max((each.pending for each in stats.by_type.values()), default=0),
        "ahead": documents.get("outlook", outlook, _OUTLOOK_SECONDS),
        "asked": asked,
        "states": [str(state) for state in WAITING],
        "events": page.events,
        "on": "" if page.next is None else asked.address(after=page.next),
        "first": asked.address() if after else "",
        "command": f"rlm queue list {ON_A_PAGE}{asked.options(after=str(after or ''))}",
    }


def outlook(store: Store) -> str:
    """Return in a sentence when the backlog is gone; empty if that is not known."""
    found = answer(store, read_question(store.settings, PlanAsk())).forecasts[0].outlook
    return found.sentence if found else ""


def failures_context(documents: Documents, question: Query) -> Mapping[str, object]:
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

    def find(store: Store) -> _Letters:
        since_time = since and system_clock.now() - since
        page = letter_page(store, LetterFilter(**chosen, since=since_time, text=text), ON_A_PAGE, behind)
        letters = [(msgspec.json.decode(raw), not is_unsendable(store, DeadLetter.read(raw))) for raw in page.letters]
        return page, letters

    nothing: _Letters = LetterPage([], [], 0, 0), []
    page, letters = nothing
    if not asked.faults:
        page, letters = documents.get(("letters", question.query), find, LETTERS_SECONDS)
    last = behind + len(letters)
    return {
        "letters": [{**letter, "sendable": sendable} for letter, sendable in letters],
        "fitting": page.fitting,
        "total": page.total,
        "asked": asked,
        "types": types,
        "endpoints": endpoints,
        "reasons": tuple(Reason),
        "sendable": sum(each.sendable for each in page.groups),
        "groups": [group(each, page.groups, asked.given) for each in page.groups[:GROUPS]],
        "more_groups": max(0, len(page.groups) - GROUPS),
        "first": behind + 1,
        "last": last,
        "older": asked.address(behind=last) if last < page.fitting else "",
        "newer": asked.address(behind=max(0, behind - ON_A_PAGE)) if behind else "",
        "body": body(asked.given),
        "chosen": bool(asked.given),
        "command": f"rlm failed list {ON_A_PAGE}{asked.options()}",
    }


def body(given: Mapping[str, list[str]]) -> dict[str, object]:
    """Return the filter in the form of `POST /api/failed/retry` and `drop`; all letters without one."""
    told = {name: found[0] if name in {"since", "search"} else found for name, found in given.items()}
    return {"filter": told} if told else {"all": True}


def group(one: LetterGroup, groups: Sequence[LetterGroup], filtered: Mapping[str, list[str]]) -> dict[str, object]:
    """Return the values of a group: its letters, the address of their list, and the body that its buttons send.

    The body is None if the filter would also match letters of other groups; `among` is the number that it matches.
    """
    fields = {name: getattr(one, name) for name in ("reason", "answer", "endpoint", "type")}
    narrow = {name: [value] for name, value in fields.items() if value}
    given = {**filtered, **narrow}
    among = sum(
        other.letters for other in groups if all(getattr(other, name) == value for name, (value,) in narrow.items())
    )
    shown = body(given) if among == one.letters else None
    return {**asdict(one), "address": address("/failures", given), "body": shown, "among": among}


def event_context(documents: Documents, question: Query) -> Mapping[str, object]:
    """Return the values of the page of an event, or of all of an item; raise NoSuchRunError if it is unknown."""
    asked = question.get("event_id")
    views = documents.get(("event", asked), lambda store: explain(store, asked))
    events = [
        {
            "view": view,
            "trail": list(trail(view)),
            "earlier": max(0, view.calls - len(view.attempts)),
            "letters": address("/failures", {"search": [view.letter.id]}) if view.letter else "",
        }
        for view in views
    ]
    return {"title": asked, "events": events, "command": f"rlm explain {shlex.quote(asked)}"}


class Step(NamedTuple):
    """Something that happened to an event: its time, its kind, and a text."""

    at: str
    kind: str
    told: str
    text: str = ""
    run: str = ""
    took: str = ""


def trail(view: EventView) -> Iterator[Step]:
    """Yield what happened to an event, in the order of time."""
    if view.taken_at:
        yield Step(view.taken_at, "taken", "taken off the audit list")
    for call in view.attempts:
        where = call.endpoint or "an endpoint that is not known"
        took = "" if call.seconds is None else f"{call.seconds:.2f} s"
        yield Step(
            call.at, call.answer, f"attempt {call.attempt} at {where}: {call.answer}", call.text, call.run_id, took
        )
    if letter := view.letter:
        yield Step(letter.failed_at, "letter", f"became a dead letter: {letter.reason}", letter.detail)


def search_context(documents: Documents, question: Query) -> Mapping[str, object]:
    """Return the runs or the events that are found for a text; raise Elsewhere if it is one thing with its own page."""
    asked = question.get("q").strip()[:_LONGEST]
    runs, events, why = documents.get(("search", asked), lambda store: _search(store, asked))
    if len(runs) == 1:
        raise Elsewhere(run_address(runs[0]))
    if len(events) == 1:
        raise Elsewhere(event_address(events[0].event_id))
    return {
        "asked": asked,
        "runs": runs,
        "events": events,
        "why": why,
        "letters": address("/failures", {"search": [asked]}),
        "waiting": address("/queue", {"wallet": [asked]}),
        "command": f"rlm explain {shlex.quote(asked)}" if asked else "rlm explain",
    }


def _search(store: Store, asked: str) -> tuple[list[str], list[EventView], str]:
    """Return the runs whose ids begin with a text, else the events of that id or item, else why there are none."""
    if not asked:
        return [], [], "Nothing was asked for."
    if len(asked) >= _SHORTEST and (runs := runs_beginning(store, asked)):
        return runs[:_MOST_RUNS], [], ""
    try:
        return [], explain(store, asked), ""
    except NoSuchRunError as error:
        return [], [], str(error)


PAGES: Final = (
    Page("/queue", "Queue", "queue.html", queue_context, command="rlm queue stats", label="Queue"),
    Page("/failures", "Failures", "failures.html", failures_context, "rlm failed list --grouped", label="Failures"),
    Page("/events/{event_id:path}", "An event", "event.html", event_context, command="rlm explain"),
    Page("/search", "Search", "search.html", search_context, command="rlm explain"),
)
