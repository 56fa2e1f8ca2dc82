"""The page What if: the planner's answer to a question set by sliders."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from rlm.admin.planning import types_in_force
from rlm.admin.verdict import side_by_side, verdict_on
from rlm.admin.whatif import MOST_EVENTS, PlanAsk, answer, read_question
from rlm.core.endpoint import EventType
from rlm.core.errors import BadQuestionError, ConfigurationError
from rlm.ledger.reading.waiting import backlog
from rlm.ledger.store import Store
from rlm.settings import Settings
from rlm.settings.model import MOST_WORKERS
from rlm.settings.toml import dotted
from rlm.web.pages.live import Documents
from rlm.web.pages.page import Page, Query

#: Seconds for which an answer is shared.
_PLAN_SECONDS = 5.0
#: Most endpoints to add to a type.
MOST_ADDED = 9
#: A slider goes to so many times today's value, and for events at least to this number.
_TIMES, _LEAST_EVENTS = 4, 500
_MOST_CALLS = 10**9
_AMOUNT = re.compile(r"\d+")
WAITING, COUNTS = "waiting", "counts"


def context(documents: Documents, question: Query) -> Mapping[str, object]:
    """Return the values of the page: the form, and the answers if the form is valid."""
    form = documents.get(("what if", question.query), lambda store: _form(store, question), _PLAN_SECONDS)
    shown: dict[str, object] = {"form": form, "faults": form.faults, "answer": None}
    if form.faults:
        return shown
    try:
        found = documents.get(("plan", question.query), lambda store: _answer(store, form.asked), _PLAN_SECONDS)
    except (BadQuestionError, ConfigurationError) as error:
        return shown | {"faults": str(error).splitlines()}
    return shown | {"answer": found}


def _form(store: Store, question: Query) -> Form:
    last = next(iter(store.runs.recent(1)), None)
    events = {name: counts.taken + counts.carried_over for name, counts in last.by_type.items()} if last else {}
    return read_form(question, store.settings, types_in_force(store), backlog(store).events, events)


def _answer(store: Store, asked: PlanAsk) -> Mapping[str, object]:
    question = read_question(store.settings, asked)
    found = answer(store, question)
    today, last = found.forecasts[0], found.forecasts[-1]
    return {
        "verdict": verdict_on(last),
        "today": verdict_on(today) if last is not today else None,
        "assumptions": last.case.assumptions,
        "rows": list(side_by_side(*found.forecasts)),
        "forecasts": found.forecasts,
        "window_seconds": last.case.settings.run.window_seconds,
        "outlook": last.outlook.sentence if last.outlook else "",
        "command": asked.command,
    }


class Number(NamedTuple):
    """A number of the form, with a slider from `least` to `most`, and its unit; `today` is the present value."""

    name: str
    label: str
    value: int
    today: int
    least: int
    most: int
    unit: str = ""
    key: str = ""

    @property
    def told(self) -> bool:
        """Whether it differs from today."""
        return self.value != self.today

    @property
    def limit(self) -> str:
        """The limit with this number of calls."""
        return f"{self.value}{self.unit}"


class TypeFields(NamedTuple):
    """The fields of one type: its events, the limits of its endpoints, and endpoints to add."""

    name: str
    events: Number
    limits: tuple[Number, ...]
    added: Number

    @property
    def told(self) -> bool:
        """Whether anything of it differs from today."""
        return any(one.told for one in (self.events, *self.limits, self.added))


class Form(NamedTuple):
    """The form as it was sent, its `faults`, and where the numbers of events came from (`began_with`)."""

    basis: str
    began_with: str
    workers: Number
    types: tuple[TypeFields, ...]
    budgets: tuple[Number, ...]
    faults: list[str]

    @property
    def busiest(self) -> str:
        """The type with the most events."""
        return max(self.types, key=lambda one: one.events.value).name

    @property
    def asked(self) -> PlanAsk:
        """The question in the form of `rlm plan`."""
        counts = [f"{one.name}={one.events.value}" for one in self.types if one.events.value]
        nothing = [f"{self.types[0].name}=0"]
        limits = [*(limit for one in self.types for limit in one.limits), *self.budgets]
        return PlanAsk(
            counts=(counts or nothing) if self.basis == COUNTS else (),
            workers=self.workers.value or None,
            told=[f"{one.key}={one.limit}" for one in limits if one.told],
            add=[f"{one.name}={one.name}_more_{n + 1}" for one in self.types for n in range(one.added.value)],
        )


def read_form(
    question: Query,
    settings: Settings,
    types: tuple[EventType, ...],
    waiting: Mapping[str, int],
    last: Mapping[str, int],
) -> Form:
    """Read the form from a query; its initial events are those `waiting`, by type, else those of the `last` run."""
    reader = _FormReader(question)
    busy = sum(waiting.values()) > 0
    basis = question.get("for", WAITING if busy else COUNTS)
    begin = waiting if busy or not any(last.values()) else last
    most_workers = settings.workers.max
    return Form(
        began_with="waiting now" if begin is waiting else "in the last run",
        basis=basis if basis in {WAITING, COUNTS} else COUNTS,
        workers=reader.number("workers", "workers", 0, (0, MOST_WORKERS), slider=max(2 * most_workers, 10)),
        types=tuple(_type_fields(reader, settings, kind, begin.get(kind.name, 0)) for kind in types),
        budgets=tuple(_budgets(reader, types)),
        faults=reader.faults,
    )


def _type_fields(reader: _FormReader, settings: Settings, kind: EventType, events: int) -> TypeFields:
    name = kind.name
    slider = _nice(max(_LEAST_EVENTS, _TIMES * events))
    return TypeFields(
        name,
        reader.number(f"events.{name}", f"events of {name}", events, (0, MOST_EVENTS), slider=slider),
        tuple(_limits(reader, settings, kind)),
        reader.number(f"add.{name}", f"more endpoints for {name}", 0, (0, MOST_ADDED), slider=3),
    )


def _limits(reader: _FormReader, settings: Settings, kind: EventType) -> Iterator[Number]:
    """Yield the limit of the type, unless each endpoint has its own; then those of endpoints with their own."""
    described = settings.types[kind.name].endpoints
    own = [bool(one.rate_limit) for one in described]
    if not all(own):
        first = kind.endpoints[own.index(False)]
        place: tuple[str | int, ...] = ("types", kind.name, "rate_limit")
        yield reader.limit(f"limit.{kind.name}", f"limit of {kind.name}", first.limit.text, place)
    for number, one in enumerate(kind.endpoints):
        if own[number]:
            place = ("types", kind.name, "endpoints", number, "rate_limit")
            yield reader.limit(f"limit.{one.name}", f"limit of {one.name}", one.limit.text, place)


def _budgets(reader: _FormReader, types: tuple[EventType, ...]) -> Iterator[Number]:
    budgets = {one.budget.name: one.budget for kind in types for one in kind.endpoints if one.budget}
    for name, one in budgets.items():
        yield reader.limit(f"budget.{name}", f"budget {name}", one.limit.text, ("budgets", name, "rate_limit"))


class _FormReader:
    """Reads numbers from a query and collects invalid ones."""

    def __init__(self, question: Query) -> None:
        self._question = question
        self.faults: list[str] = []

    def limit(self, name: str, label: str, text: str, place: tuple[str | int, ...]) -> Number:
        """Read the calls of a limit; the rest of the limit stays as in `text`."""
        found = _AMOUNT.match(text)
        amount = int(found[0]) if found else 0
        read = self.number(name, label, amount, (1, _MOST_CALLS), slider=_nice(_TIMES * amount))
        return read._replace(unit=text[found.end() :] if found else text, key=dotted(place))

    def number(self, name: str, label: str, today: int, bounds: tuple[int, int], *, slider: int = 0) -> Number:
        """Read a whole number within `bounds`; without one use today's."""
        text, (least, most) = self._question.get(name).strip(), bounds
        value = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(most)) else None
        if text and (value is None or not least <= value <= most):
            self.faults.append(f"{label}: {text[:40]!r} is not a whole number from {least:,} to {most:,}")
            value = None
        shown = today if value is None else value
        return Number(name, label, shown, today, least, min(most, max(slider, today, shown)))


def _nice(number: int) -> int:
    """Round up to a number with at most two digits that are not 0."""
    step: int = 10 ** max(0, len(str(number)) - 2)
    return math.ceil(number / step) * step


PAGE = Page("/whatif", "What if", "whatif.html", context, label="What if")
