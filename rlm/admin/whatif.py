"""A question to `rlm plan` and its answer: a forecast as things are, and one as they might be."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from rlm.admin import planning
from rlm.admin.conditions import conditions, is_grave
from rlm.admin.queue import backlog
from rlm.admin.words import Verdict, told
from rlm.core.documents import PlanView
from rlm.core.endpoint import EventType, all_limited, in_force
from rlm.core.errors import BadQuestionError
from rlm.core.text import Texts, counted, did_you_mean, is_name, safe_line, span
from rlm.ledger.store import Store
from rlm.plan import Outlook, Plan, look_ahead
from rlm.plan.situation import Workload
from rlm.settings import Settings, load_settings
from rlm.settings.secrets import mask

#: The most events to plan for: every JSON reader can represent this number.
MOST_EVENTS = 10**15


_NAMES = {"counts": "count", "told": "set", "add": "add-endpoint"}


class PlanAsk(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename=_NAMES):
    """The options of `rlm plan` as they were typed."""

    counts: Texts = []
    workers: Annotated[int, Meta(ge=1, le=1000)] | None = None
    told: Texts = []
    add: Texts = []

    @property
    def assumptions(self) -> list[str]:
        """Those that ask what if."""
        options = [f"--workers {self.workers}"] if self.workers else []
        options += [f"--set {shlex.quote(mask(each))}" for each in self.told]
        return options + [f"--add-endpoint {shlex.quote(each)}" for each in self.add]

    @property
    def command(self) -> str:
        """The shell command that asks the same question."""
        return " ".join(["rlm plan", *(f"--count {shlex.quote(each)}" for each in self.counts), *self.assumptions])


class Question(msgspec.Struct, frozen=True):
    """A valid question: its numbers by type, and the settings and additional endpoints of the hypothetical case.

    `added` has the type of each additional endpoint by the endpoint's name.
    """

    asked: PlanAsk
    counts: Mapping[str, int]
    added: Mapping[str, str]
    settings: Settings


def read_question(settings: Settings, asked: PlanAsk) -> Question:
    """Check a question; raise a BadQuestionError with the faulty `option`, or a ConfigurationError."""
    counts: dict[str, int] = {}
    for text in asked.counts:
        name, _, number = text.rpartition("=")
        if not (number.isascii() and number.isdecimal() and len(number) < len(str(MOST_EVENTS))):
            raise BadQuestionError(f"{text[:60]!r} is not TYPE=N, for example REBALANCE_NEEDED=200", "--count")
        _check_type("--count", name, settings)
        counts[name] = int(number)
    other = load_settings(settings.source, overrides=asked.told) if asked.told else settings
    added: dict[str, str] = {}
    for text in asked.add:
        name, _, endpoint = text.partition("=")
        if not is_name(endpoint):
            raise BadQuestionError(f"{text!r} is not TYPE=NAME", "--add-endpoint")
        _check_type("--add-endpoint", name, other)
        if endpoint in {*added, *other.endpoints, *other.budgets}:
            raise BadQuestionError(f"{endpoint!r} is an endpoint or a budget already", "--add-endpoint")
        added[endpoint] = name
    return Question(asked, counts, added, other)


def _check_type(option: str, name: str, settings: Settings) -> None:
    if name not in settings.types:
        hint, names = did_you_mean(name, settings.types), ", ".join(kind.name for kind in settings.event_types)
        raise BadQuestionError(f"{name!r} is not a configured type{hint}; there are {names}", option)


class Forecast(msgspec.Struct, frozen=True):
    """The plan of one case, and the outlook if it is known what arrives.

    `gone_seconds` is the time from a run's start to the moment planned for; `lacking` why a run would come to nothing
    now, else empty.
    """

    plan: Plan
    outlook: Outlook | None
    gone_seconds: float
    window_seconds: float
    lacking: str

    def view(self) -> PlanView:
        """Return the document of the plan."""
        return replace(
            msgspec.convert(self.plan, PlanView, from_attributes=True),
            start_seconds=round(self.gone_seconds, 3),
            gone_in_windows=self.outlook and self.outlook.windows,
        )

    @property
    def end_seconds(self) -> float:
        """When the last event that fits is answered, in seconds from the start of the run."""
        return self.gone_seconds + self.plan.first_call_seconds + self.plan.forecast_seconds

    @property
    def events(self) -> int:
        """The number of planned events."""
        return sum(part.events for part in self.plan.by_type.values())

    @property
    def verdict(self) -> Verdict:
        """Whether everything is done in time, and what is left over if not."""
        plan, alone = self.plan, safe_line(self.lacking)
        if not self.events:
            return Verdict("rest", "Nothing to do")
        if not plan.fits:
            left = f"{plan.expected_leftover:,} of {counted(self.events, 'event')} will be left over"
            return Verdict("warn" if plan.releases and not alone else "bad", left, alone or plan.binds)
        early = span(max(0.0, self.window_seconds - self.end_seconds))
        done = f"{counted(self.events, 'event')} done {early} before the deadline"
        if alone:
            return Verdict("bad", f"{done}, once there is somebody to do it", alone)
        return Verdict("well", done, plan.binds)


def answer(store: Store, question: Question) -> list[Forecast]:
    """Plan as things are and, if that was asked, as they might be; nothing is taken or changed.

    For given numbers, the content of windows and the living processes are ignored.
    """
    today = replace(question, asked=replace(question.asked, workers=None), added={}, settings=store.settings)
    return [_forecast(store, each) for each in ([today, question] if question.asked.assumptions else [today])]


def view_of(forecasts: Sequence[Forecast], question: Question) -> PlanView:
    """Return the document of `rlm plan --json`."""
    today, *what_if = (forecast.view() for forecast in forecasts)
    return replace(what_if[0], what_if=" ".join(question.asked.assumptions), today=today) if what_if else today


def _forecast(store: Store, question: Question) -> Forecast:
    """Plan a run that starts now, and look ahead at what becomes of its leftovers."""
    settings, workers, is_fresh = question.settings, question.asked.workers, bool(question.counts)
    types, waiting = _types(store, question), None if is_fresh else backlog(store)
    endpoints = [endpoint for kind in types for endpoint in kind.endpoints]
    gone_seconds, guard_seconds = planning.start_seconds(store), settings.run.guard_seconds
    windows = {}
    if not is_fresh:
        windows = planning.live_windows(store, endpoints, ahead_seconds=gone_seconds, guard_seconds=guard_seconds)
    configured = {(kind.name, kind.processing_seconds) for kind in store.settings.event_types}
    told_anew = {kind.name for kind in types if (kind.name, kind.processing_seconds) not in configured}
    expected = {pair: each for pair, each in store.measures.learned(types).items() if pair[0] not in told_anew}
    room = planning.room_of(store) if settings.workers == store.settings.workers else None  # it follows workers.max
    capacity = planning.capacity_of(settings, room=room).exactly(workers)
    numbers = waiting.events if waiting else question.counts
    workload = Workload({kind.name: numbers.get(kind.name, 0) for kind in types}, types, windows, expected)
    plan = planning.plan_run(settings, workload, capacity, gone_seconds=gone_seconds)
    rates = planning.measured_arrivals(store) or {}
    return Forecast(
        plan,
        look_ahead(plan, {name: rate * settings.run.every_seconds for name, rate in rates.items()}) if rates else None,
        gone_seconds,
        settings.run.window_seconds,
        "" if is_fresh or workers else "; ".join(map(told, filter(is_grave, conditions(store)))),
    )


def _types(store: Store, question: Question) -> tuple[EventType, ...]:
    """Return the types of a question; a limit in force stands for one in the settings that is as it is today."""
    settings, today = question.settings, {each.name: each for each in all_limited(store.settings.endpoints.values())}
    same = {
        each.name
        for each in all_limited(settings.endpoints.values())
        if each.name in today and today[each.name].limit == each.limit
    }
    limits = {name: text for name, text in store.limits().items() if name in same}
    types = {
        kind.name: replace(kind, endpoints=tuple(in_force(endpoint, limits) for endpoint in kind.endpoints))
        for kind in settings.event_types
    }
    for name, of_type in question.added.items():
        kind = types[of_type]
        types[of_type] = replace(kind, endpoints=(*kind.endpoints, replace(kind.one_more(name), url=f"what-if:{name}")))
    return tuple(types.values())


def side_by_side(*forecasts: Forecast) -> Iterator[list[str]]:
    """Yield the rows of a table with one column per forecast. Forecasts count from their first call."""
    plans = [each.plan for each in forecasts]
    yield ["workers", *(f"{each.workers:,}" for each in plans)]
    yield ["first call in", *(f"{each.first_call_seconds:.1f} s" if each.releases else "-" for each in plans)]
    yield ["forecast", *(_length(each.forecast_seconds) for each in plans)]
    yield ["lower bound", *(_length(each.lower_bound_seconds) for each in plans)]
    yield ["left over", *(f"{each.expected_leftover:,}" for each in plans)]
    for name, part in plans[0].by_type.items():
        if part.events:
            done = (each.by_type[name].events - each.by_type[name].expected_leftover for each in plans)
            yield [f"{name} done", *(f"{number:,}" for number in done)]


def _length(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds else "-"
