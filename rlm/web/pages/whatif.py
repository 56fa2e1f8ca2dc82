"""The page What if: the planner's answer to a question set by sliders.

Limits of single endpoints and of budgets have no slider; `rlm plan --set` tries them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from rlm.admin.errors import BadQuestionError
from rlm.admin.planning import MOST_EVENTS, Forecast, PlanAsk, answer, read_question, side_by_side, types_in_force
from rlm.admin.queue import queue_stats
from rlm.core.errors import ConfigurationError
from rlm.ledger.store import Store
from rlm.settings.layers import dotted
from rlm.settings.model import MOST_WORKERS
from rlm.web.pages.page import Page, Query


class Number(NamedTuple):
    """A number of the form, with a slider from `least` to `most`; `beside` it stands what it is `today`."""

    name: str
    label: str
    beside: str
    value: int
    today: int
    least: int
    most: int

    @property
    def is_changed(self) -> bool:
        """Whether it differs from today's."""
        return self.value != self.today


class Form:
    """The form as it was sent: its numbers, those of each type by name, its `faults` and its `question`."""

    def __init__(self, store: Store, query: Query) -> None:
        self._query, self.faults = query, list[str]()
        events = {name: each.pending for name, each in queue_stats(store).by_type.items()}
        began_with = "waiting now"
        self.basis = query.get("for") or ("waiting" if any(events.values()) else "counts")
        if (last := next(iter(store.runs.recent(1)), None)) and not any(events.values()):
            events = {name: counts.taken + counts.carried_over for name, counts in last.by_type.items()}
            began_with = "in the last run"
        most = max(2 * store.settings.workers.max, 10)
        self.workers = self._number("workers", "Workers", "0: as many as it takes", (0, 0, MOST_WORKERS, most))
        self.types: dict[str, list[Number]] = {}
        counts, told, add = list[str](), list[str](), list[str]()
        for kind in types_in_force(store):
            name, today = kind.name, events.get(kind.name, 0)
            bounds = today, 0, MOST_EVENTS, _round_up(max(500, 4 * today))
            numbers = [self._number(f"events.{name}", "events", f"{today:,} {began_with}", bounds)]
            counts += [f"{name}={each.value}" for each in numbers if each.value]
            own = [bool(each.rate_limit) for each in store.settings.types[name].endpoints]
            if not all(own):  # the others have the limit of the type
                calls, unit = re.fullmatch(r"(\d*)(.*)", kind.endpoints[own.index(False)].limit.text).groups()  # type: ignore[union-attr]  # it fits
                bounds = int(calls), 1, 10**9, _round_up(4 * int(calls))
                limit = self._number(f"limit.{name}", f"calls{unit} at each endpoint", f"today {int(calls):,}", bounds)
                numbers.append(limit)
                told += [f"{dotted(('types', name, 'rate_limit'))}={limit.value}{unit}"] if limit.is_changed else []
            numbers.append(self._number(f"add.{name}", "more endpoints", "", (0, 0, 9, 3)))
            add += [f"{name}={name}_more_{n + 1}" for n in range(numbers[-1].value)]
            self.types[name] = numbers
        self.busiest = max(self.types, key=lambda name: self.types[name][0].value)
        counts = [] if self.basis == "waiting" else counts or [f"{self.busiest}=0"]
        self.question = PlanAsk(counts, self.workers.value or None, told, add)

    def _number(self, name: str, label: str, beside: str, bounds: tuple[int, int, int, int]) -> Number:
        """Read a whole number; `bounds` are today's, which is used without one, the least, the most, the slider's."""
        text, (today, least, most, slider) = self._query.get(name).strip(), bounds
        value = today
        if re.fullmatch(r"[0-9]{1,16}", text) and least <= int(text) <= most:
            value = int(text)
        elif text:
            self.faults.append(f"{name}: {text[:40]!r} is not a whole number from {least:,} to {most:,}")
        return Number(name, label, beside, value, today, least, min(most, max(slider, today, value)))


def _context(store: Store, question: Query) -> Mapping[str, object]:
    """Return the values of the page: the form, and the answers if the form is valid."""
    form = Form(store, question)
    faults, forecasts = form.faults, list[Forecast]()
    if not faults:
        try:
            forecasts = answer(store, read_question(store.settings, form.question))
        except (BadQuestionError, ConfigurationError) as error:
            faults = str(error).splitlines()
    rows = [*side_by_side(*forecasts)] if forecasts else []
    return {"form": form, "faults": faults, "forecasts": forecasts, "rows": rows, "command": form.question.command}


def _round_up(number: int) -> int:
    """Round up to a number with at most two digits that are not 0."""
    step: int = 10 ** max(0, len(str(number)) - 2)
    return math.ceil(number / step) * step


PAGE: Final = Page("/whatif", "What if", "whatif.html", _context, label="What if")
