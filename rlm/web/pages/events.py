"""The pages of events: waiting ones, failed ones, one explained."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec.structs import asdict

from rlm.admin.explain import explain
from rlm.admin.letters import grouped
from rlm.admin.planning import PlanAsk, answer, read_question
from rlm.admin.queue import WAITING, list_waiting, queue_stats
from rlm.core.documents import LetterGroup, WaitingList
from rlm.core.item import Reason
from rlm.ledger.store import Store
from rlm.web.answers import EventsShown, LettersShown
from rlm.web.pages.page import ListFilter, Page, Query, address

#: Events, letters or runs on a page of a list.
ON_A_PAGE: Final = 50


def _queue(store: Store, question: Query) -> Mapping[str, object]:
    stats, form = queue_stats(store), ListFilter("/queue", question, EventsShown)
    page = WaitingList(events=(), next=None)
    if not form.fault:
        page = list_waiting(store, form.chosen, ON_A_PAGE, form.after)
    ahead = answer(store, read_question(store.settings, PlanAsk()))[0].outlook
    return {
        "stats": stats,
        "most": max((each.pending for each in stats.by_type.values()), default=0),
        "ahead": ahead,
        "form": form,
        "states": WAITING,
        "events": page.events,
        "on": "" if page.next is None else form.address(page.next),
        "first": form.address() if form.after else "",
    }


def _failures(store: Store, question: Query) -> Mapping[str, object]:
    form = ListFilter("/failures", question, LettersShown)
    chosen = [] if form.fault else [*form.chosen.find(store)]
    letters = chosen[form.after : form.after + ON_A_PAGE]
    groups, fitting, after = grouped(chosen), len(chosen), form.after + len(letters)
    return {
        "letters": [*map(msgspec.json.decode, letters)],
        "fitting": fitting,
        "total": store.letters.count(),
        "form": form,
        "types": store.known_types,
        "endpoints": store.settings.endpoints,
        "reasons": tuple(Reason),
        "groups": [group(each, groups, form.given) for each in groups[:20]],
        "last": after,
        "older": form.address(after) if after < fitting else "",
        "newer": form.address(max(0, form.after - ON_A_PAGE)) if form.after else "",
        "body": _body(form.given),
    }


def _body(given: Mapping[str, object]) -> dict[str, object]:
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
    order = _body(chosen) if among == shown.letters else None
    return {**asdict(shown), "address": address("/failures", chosen), "body": order, "among": among}


def _event(store: Store, question: Query) -> Mapping[str, object]:
    name = question.about
    return {"title": name, "events": explain(store, name), "command": f"rlm explain {shlex.quote(name)}"}


EVENT: Final = Page("/events/{event_id:path}", "An event", "event.html", _event, "rlm explain")
PAGES: Final = (
    Page("/queue", "Queue", "queue.html", _queue, "rlm queue list", "Queue"),
    Page("/failures", "Failures", "failures.html", _failures, "rlm failed list", "Failures"),
    EVENT,
)
