"""The pages of events: waiting ones, failed ones, one explained."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from rlm.admin.explain import explain
from rlm.admin.letters import LetterFilter, grouped
from rlm.admin.planning import PlanAsk, answer, read_question
from rlm.admin.queue import UNSETTLED, EventFilter, list_waiting, queue_stats
from rlm.admin.text import seconds_in
from rlm.core.documents import LetterGroup, WaitingList
from rlm.core.item import Reason
from rlm.ledger.store import Store
from rlm.web.pages.page import ListFilter, Page, Query

#: Events, letters or runs on a page of a list.
ON_A_PAGE: Final = 50


def _queue(store: Store, question: Query) -> Mapping[str, object]:
    form = ListFilter("/queue", question, EventFilter, lambda chosen: seconds_in(chosen.older_than or "1s"))
    page = WaitingList(events=(), next=None)
    if not form.fault:
        page = list_waiting(store, form.chosen, ON_A_PAGE, form.after)
    outlook = answer(store, read_question(store.settings, PlanAsk()))[0].outlook
    return {"stats": queue_stats(store), "ahead": outlook, "form": form, "states": UNSETTLED, "waits": page}


def _failures(store: Store, question: Query) -> Mapping[str, object]:
    form = ListFilter("/failures", question, LetterFilter, LetterFilter.matcher)
    fitting = [] if form.fault else [*form.chosen.find(store)]
    groups = grouped(fitting)
    return {
        "letters": [*map(msgspec.json.decode, fitting[form.after : form.after + ON_A_PAGE])],
        "fitting": len(fitting),
        "total": store.letters.count(),
        "form": form,
        "on_a_page": ON_A_PAGE,
        "types": store.ledger.types(),
        "endpoints": store.settings.endpoints,
        "reasons": tuple(Reason),
        "groups": [(group, *_alike(group, groups)) for group in groups[:20]],
    }


def _alike(group: LetterGroup, groups: Sequence[LetterGroup]) -> tuple[dict[str, object], int]:
    """Return the filter for a group, and how many letters it matches: also those of groups with more fields."""
    fields = {name: [value] for name in ("reason", "endpoint", "type") if (value := getattr(group, name))}
    matching = (each for each in groups if all([getattr(each, name)] == value for name, value in fields.items()))
    return {**fields}, sum(each.letters for each in matching)


def _event(store: Store, question: Query) -> Mapping[str, object]:
    name = question.about
    return {"title": name, "events": explain(store, name), "command": f"rlm explain {shlex.quote(name)}"}


EVENT: Final = Page("/events/{event_id:path}", "An event", "event.html", _event, "rlm explain")
PAGES: Final = (
    Page("/queue", "Queue", "queue.html", _queue, "rlm queue list", "Queue"),
    Page("/failures", "Failures", "failures.html", _failures, "rlm failed list", "Failures"),
    EVENT,
)
