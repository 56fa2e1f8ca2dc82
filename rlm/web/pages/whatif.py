"""The page What if: the planner's answer to a question set by sliders.

Limits of single endpoints and of budgets have no slider; `rlm plan --set` tries them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from rlm.admin.planning import MOST_EVENTS, PlanAsk, answer, read_question, side_by_side, types_in_force
from rlm.admin.queue import queue_stats
from rlm.core.endpoint import EventType
from rlm.core.errors import BadQuestionError, ConfigurationError
from rlm.ledger.store import Store
from rlm.settings.layers import dotted
from rlm.settings.model import MOST_WORKERS
from rlm.web.pages.page import Page, Query


class Number(NamedTuple):
    """A number of the form, with a slider from `least` to `most`; `today` is the present value.

    The number of a limit is followed by `unit`.
    """

    name: str
    label: str
    value: int
    today: int
    least: int
    most: int
    unit: str = ""


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
        waiting, self.began_with = queue_stats(store).by_type, "waiting now"
        events = {name: each.pending for name, each in waiting.items()}
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
            calls, unit = re.fullmatch(r"(\d*)(.*)", kind.endpoints[own.index(False)].limit.text).groups()  # type: ignore[union-attr]  # it fits
            limit = self._number(
                f"limit.{name}", f"limit of {name}", int(calls), (1, 10**9), _round_up(4 * int(calls))
            )._replace(unit=unit)
        return TypeFields(
            name,
            self._number(
                f"events.{name}", f"events of {name}", events, (0, MOST_EVENTS), _round_up(max(500, 4 * events))
            ),
            limit,
            self._number(f"add.{name}", f"more endpoints for {name}", 0, (0, 9), 3),
        )

    def _number(self, name: str, label: str, today: int, bounds: tuple[int, int], slider: int) -> Number:
        """Read a whole number within `bounds`; without one use today's."""
        text, (least, most), value = self._question.get(name).strip(), bounds, today
        if re.fullmatch(r"[0-9]{1,16}", text) and least <= int(text) <= most:
            value = int(text)
        elif text:
            self.faults.append(f"{label}: {text[:40]!r} is not a whole number from {least:,} to {most:,}")
        return Number(name, label, value, today, least, min(most, max(slider, today, value)))

    @property
    def question(self) -> PlanAsk:
        """The question in the form of `rlm plan`."""
        counts = [f"{kind.name}={kind.events.value}" for kind in self.types if kind.events.value]
        limits = {kind.name: kind.limit for kind in self.types if kind.limit and kind.limit.value != kind.limit.today}
        return PlanAsk(
            counts=() if self.basis == "waiting" else counts or [f"{self.types[0].name}=0"],
            workers=self.workers.value or None,
            told=[f"{dotted(('types', name, 'rate_limit'))}={each.value}{each.unit}" for name, each in limits.items()],
            add=[f"{kind.name}={kind.name}_more_{n + 1}" for kind in self.types for n in range(kind.added.value)],
        )


def _context(store: Store, question: Query) -> Mapping[str, object]:
    """Return the values of the page: the form, and the answers if the form is valid."""
    form = Form(store, question)
    faults, plan = form.faults, None
    if not faults:
        try:
            plan = _answer(store, form.question)
        except (BadQuestionError, ConfigurationError) as error:
            faults = str(error).splitlines()
    return {"form": form, "faults": faults, "answer": plan, "command": form.question.command}


def _answer(store: Store, options: PlanAsk) -> Mapping[str, object]:
    forecasts = answer(store, read_question(store.settings, options))
    today, last = forecasts[0], forecasts[-1]
    return {
        "verdict": last.verdict,
        "today": today.verdict if last is not today else None,
        "assumptions": " ".join(options.assumptions),
        "rows": list(side_by_side(*forecasts)),
        "forecasts": forecasts,
        "window_seconds": last.window_seconds,
        "outlook": last.outlook,
    }


def _round_up(number: int) -> int:
    """Round up to a number with at most two digits that are not 0."""
    step: int = 10 ** max(0, len(str(number)) - 2)
    return math.ceil(number / step) * step


PAGE: Final = Page("/whatif", "What if", "whatif.html", _context, label="What if")
