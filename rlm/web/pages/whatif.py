"""The page What if: the planner's answer to a question set by sliders.

Limits of single endpoints and of budgets have no slider; `rlm plan --set` tries them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from rlm.admin.planning import types_in_force
from rlm.admin.whatif import MOST_EVENTS, PlanAsk, answer, read_question, side_by_side, verdict_on
from rlm.core.endpoint import EventType
from rlm.core.errors import BadQuestionError, ConfigurationError
from rlm.ledger.reading.waiting import backlog
from rlm.ledger.store import Store
from rlm.settings.layers import dotted
from rlm.settings.model import MOST_WORKERS
from rlm.web.pages.live import Documents
from rlm.web.pages.page import Page, Query

#: Seconds for which an answer is shared.
_PLAN_SECONDS = 5.0
_AMOUNT: Final = re.compile(r"\d+")


class Number(NamedTuple):
    """A number of the form, with a slider from `least` to `most`; `today` is the present value.

    The number of a limit is followed by `unit`, and the limit is the setting `key`.
    """

    name: str
    label: str
    value: int
    today: int
    least: int
    most: int
    unit: str = ""
    key: str = ""


class TypeFields(NamedTuple):
    """The fields of one type: its events, the limit of its endpoints (None: each has its own), endpoints to add."""

    name: str
    events: Number
    limit: Number | None
    added: Number

    @property
    def changed(self) -> bool:
        """Whether anything of it differs from today."""
        return any(each and each.value != each.today for each in (self.events, self.limit, self.added))


class Form:
    """The form as it was sent: its fields, and its `faults`; `began_with` is where the numbers of events come from."""

    def __init__(self, store: Store, question: Query) -> None:
        self._question = question
        self.faults: list[str] = []
        last = next(iter(store.runs.recent(1)), None)
        events, self.began_with = backlog(store).events, "waiting now"
        self.basis = question.get("for") or ("waiting" if any(events.values()) else "counts")
        if last and not any(events.values()):
            events = {name: counts.taken + counts.carried_over for name, counts in last.by_type.items()}
            self.began_with = "in the last run"
        most_workers = max(2 * store.settings.workers.max, 10)
        self.workers = self._number("workers", "workers", 0, (0, MOST_WORKERS), most_workers)
        self.types = [self._type(kind, events.get(kind.name, 0), store) for kind in types_in_force(store)]
        self.busiest = max(self.types, key=lambda kind: kind.events.value).name

    def _type(self, kind: EventType, events: int, store: Store) -> TypeFields:
        name, limit = kind.name, None
        own = [bool(each.rate_limit) for each in store.settings.types[name].endpoints]
        if not all(own):
            text = kind.endpoints[own.index(False)].limit.text
            amount = _AMOUNT.match(text)
            calls, unit = (int(amount[0]), text[amount.end() :]) if amount else (0, text)
            field = self._number(f"limit.{name}", f"limit of {name}", calls, (1, 10**9), _round_up(4 * calls))
            limit = field._replace(unit=unit, key=dotted(("types", name, "rate_limit")))
        most = _round_up(max(500, 4 * events))
        return TypeFields(
            name,
            self._number(f"events.{name}", f"events of {name}", events, (0, MOST_EVENTS), most),
            limit,
            self._number(f"add.{name}", f"more endpoints for {name}", 0, (0, 9), 3),
        )

    def _number(self, name: str, label: str, today: int, bounds: tuple[int, int], slider: int) -> Number:
        """Read a whole number within `bounds`; without one use today's."""
        text, (least, most) = self._question.get(name).strip(), bounds
        value = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(most)) else None
        if text and (value is None or not least <= value <= most):
            self.faults.append(f"{label}: {text[:40]!r} is not a whole number from {least:,} to {most:,}")
            value = None
        value = today if value is None else value
        return Number(name, label, value, today, least, min(most, max(slider, today, value)))

    @property
    def question(self) -> PlanAsk:
        """The question in the form of `rlm plan`."""
        counts = [f"{kind.name}={kind.events.value}" for kind in self.types if kind.events.value]
        limits = [kind.limit for kind in self.types if kind.limit and kind.limit.value != kind.limit.today]
        return PlanAsk(
            counts=() if self.basis == "waiting" else counts or [f"{self.types[0].name}=0"],
            workers=self.workers.value or None,
            told=[f"{limit.key}={limit.value}{limit.unit}" for limit in limits],
            add=[f"{kind.name}={kind.name}_more_{n + 1}" for kind in self.types for n in range(kind.added.value)],
        )


def context(documents: Documents, question: Query) -> Mapping[str, object]:
    """Return the values of the page: the form, and the answers if the form is valid."""
    form = documents.get(("what if", question.text), lambda store: Form(store, question), _PLAN_SECONDS)
    faults, plan = form.faults, None
    if not faults:
        try:
            plan = documents.get(("plan", question.text), lambda store: _answer(store, form.question), _PLAN_SECONDS)
        except (BadQuestionError, ConfigurationError) as error:
            faults = str(error).splitlines()
    return {"form": form, "faults": faults, "answer": plan, "command": form.question.command}


def _answer(store: Store, options: PlanAsk) -> Mapping[str, object]:
    forecasts = answer(store, read_question(store.settings, options)).forecasts
    today, last = forecasts[0], forecasts[-1]
    return {
        "verdict": verdict_on(last),
        "today": verdict_on(today) if last is not today else None,
        "assumptions": last.case.assumptions,
        "rows": list(side_by_side(*forecasts)),
        "forecasts": forecasts,
        "window_seconds": last.case.settings.run.window_seconds,
        "outlook": last.outlook.sentence if last.outlook else "",
    }


def _round_up(number: int) -> int:
    """Round up to a number with at most two digits that are not 0."""
    step: int = 10 ** max(0, len(str(number)) - 2)
    return math.ceil(number / step) * step


PAGE = Page("/whatif", "What if", "whatif.html", context, label="What if")
