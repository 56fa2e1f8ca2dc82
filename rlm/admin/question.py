"""A question to `rlm plan` and its answer: a forecast of the present case, and one of a hypothetical case."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlm.admin.planning import start_seconds
from rlm.admin.whatif import Case, Forecast, as_it_is, as_it_might_be
from rlm.core.errors import BadQuestionError
from rlm.core.text import did_you_mean, is_name, one_line
from rlm.ledger import Store
from rlm.ledger.reading.backlog import Backlog, Waiting, backlog
from rlm.settings import Settings, load_settings
from rlm.settings.model import MOST_WORKERS

#: The most events to plan for: every JSON reader can represent this number.
MOST_EVENTS = 10**15
_DIGITS = len(str(MOST_EVENTS))
#: Most characters of a wrong number to show.
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class PlanAsk:
    """The options of `rlm plan` as they were typed, in fields named after their values."""

    counts: Sequence[str] = ()
    workers: int | None = None
    told: Sequence[str] = ()
    add: Sequence[str] = ()

    @property
    def command(self) -> str:
        """The shell command that asks the same question."""
        options = [f"--count {shlex.quote(one)}" for one in self.counts]
        options += [f"--workers {self.workers}"] if self.workers else []
        options += [f"--set {shlex.quote(one)}" for one in self.told]
        options += [f"--add-endpoint {shlex.quote(one)}" for one in self.add]
        return " ".join(["rlm plan", *options])


@dataclass(frozen=True, slots=True)
class Question:
    """A valid question: its numbers by type, and the settings and additional endpoints of the hypothetical case.

    `added` has the type of each additional endpoint by the endpoint's name.
    """

    asked: PlanAsk
    counts: Mapping[str, int]
    added: Mapping[str, str]
    settings: Settings

    @property
    def is_what_if(self) -> bool:
        """Whether it is about other settings, endpoints or workers than the present ones."""
        return bool(self.asked.told or self.asked.add or self.asked.workers)


@dataclass(frozen=True, slots=True)
class PlanAnswer:
    """The forecast of the present case, followed by that of the hypothetical case if one was asked for."""

    forecasts: Sequence[Forecast]
    backlog: Backlog

    def as_json(self) -> dict[str, Any]:
        """Return the document of `rlm plan --json`."""
        unread = {"unread": self.backlog.waiting.unread}
        today, *what_if = [one.as_json() | unread for one in self.forecasts]
        if not what_if:
            return today
        return what_if[-1] | {"what_if": self.forecasts[-1].case.assumed(), "today": today}


def read_question(settings: Settings, asked: PlanAsk) -> Question:
    """Check a question; raise a BadQuestionError with the faulty `option`, or a ConfigurationError."""
    counts = _numbers("--count", asked.counts, settings)
    other = load_settings(settings.source, overrides=asked.told) if asked.told else settings
    added = _endpoints("--add-endpoint", asked.add, other)
    if asked.workers and asked.workers > MOST_WORKERS:
        shown = one_line(f"{asked.workers:,}", _SHOWN)
        most = f"workers.max cannot be more than {MOST_WORKERS:,}; ask for 1 to {MOST_WORKERS:,}"
        raise BadQuestionError(f"{shown}: {most}", "--workers")
    return Question(asked, counts, added, other)


def _numbers(option: str, texts: Sequence[str], settings: Settings) -> dict[str, int]:
    read: dict[str, int] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        if not name or not (number.isascii() and number.isdecimal()):
            raise BadQuestionError(f"{text!r} is not TYPE=N, for example REBALANCE_NEEDED=200", option)
        if len(number) > _DIGITS or int(number) > MOST_EVENTS:
            shown = one_line(text, _SHOWN)
            raise BadQuestionError(f"{shown!r}: at most {MOST_EVENTS:,} events can be planned for", option)
        _check_type(option, name, settings)
        if name in read:
            raise BadQuestionError(f"{name!r} is given twice", option)
        read[name] = int(number)
    return read


def _endpoints(option: str, texts: Sequence[str], settings: Settings) -> dict[str, str]:
    read: dict[str, str] = {}
    for text in texts:
        name, _, endpoint = text.partition("=")
        if not is_name(endpoint):
            raise BadQuestionError(f"{text!r} is not TYPE=NAME, for example REBALANCE_NEEDED=another_api", option)
        _check_type(option, name, settings)
        if endpoint in {*read, *settings.endpoints, *settings.budgets}:
            raise BadQuestionError(f"{endpoint!r} is an endpoint or a budget already", option)
        read[endpoint] = name
    return read


def _check_type(option: str, name: str, settings: Settings) -> None:
    if name not in settings.types:
        hint = did_you_mean(name, settings.types)
        known = ", ".join(one.name for one in settings.event_types)
        raise BadQuestionError(f"{name!r} is not a configured type{hint}; there are {known}", option)


def answer(store: Store, question: Question) -> PlanAnswer:
    """Read the waiting events and the windows, and plan; nothing is taken or changed."""
    cases, numbers = _cases(store, question, fresh=bool(question.counts)), question.counts
    of_counts = {one.name: numbers.get(one.name, 0) for one in store.settings.event_types}
    found = Backlog(of_counts, Waiting()) if numbers else backlog(store)
    return PlanAnswer([case.forecast(found) for case in cases], found)


def _cases(store: Store, question: Question, *, fresh: bool) -> list[Case]:
    """Return the present case, then the hypothetical one if one was asked for."""
    asked = question.asked
    today = as_it_is(store, start_seconds(store), fresh=fresh)
    if not question.is_what_if:
        return [today]
    return [today, as_it_might_be(store, today, question.settings, question.added, asked.workers, fresh=fresh)]
