"""A question to `rlm plan` and its answer: a forecast of the present case, and one of a hypothetical case.

A hypothetical case has other settings, endpoints or workers.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from rlm.admin import planning
from rlm.admin.conditions import conditions, standstill
from rlm.admin.words import Level, Verdict
from rlm.core.documents import AddedEndpoint, Assumptions, PlanView
from rlm.core.endpoint import Endpoint, EventType, in_force
from rlm.core.errors import BadQuestionError
from rlm.core.expected import Expected, Pair
from rlm.core.text import counted, did_you_mean, is_name, one_line, safe_line, span
from rlm.core.window import WindowState
from rlm.ledger.reading.waiting import backlog
from rlm.ledger.store import Store
from rlm.plan import Outlook, Plan, look_ahead
from rlm.plan.situation import Workload
from rlm.settings import Settings, load_settings
from rlm.settings.layers import OPTION, dotted, toml_value
from rlm.settings.model import MOST_WORKERS

#: A first call this many seconds after the run's start is worth a line.
WORTH_A_LINE_SECONDS = 0.1
#: The most events to plan for: every JSON reader can represent this number.
MOST_EVENTS = 10**15
#: Most characters of a wrong number to show.
_SHOWN = 60


class PlanAsk(msgspec.Struct, frozen=True):
    """The options of `rlm plan` as they were typed."""

    counts: Sequence[str] = ()
    workers: int | None = None
    told: Sequence[str] = ()
    add: Sequence[str] = ()

    @property
    def command(self) -> str:
        """The shell command that asks the same question."""
        options = [f"--count {shlex.quote(each)}" for each in self.counts]
        options += [f"--workers {self.workers}"] if self.workers else []
        options += [f"--set {shlex.quote(each)}" for each in self.told]
        options += [f"--add-endpoint {shlex.quote(each)}" for each in self.add]
        return " ".join(["rlm plan", *options])


class Question(msgspec.Struct, frozen=True):
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


def read_question(settings: Settings, asked: PlanAsk) -> Question:
    """Check a question; raise a BadQuestionError with the faulty `option`, or a ConfigurationError."""
    counts: dict[str, int] = {}
    for text in asked.counts:
        name, _, number = text.rpartition("=")
        if not name or not (number.isascii() and number.isdecimal()):
            raise BadQuestionError(f"{text!r} is not TYPE=N, for example REBALANCE_NEEDED=200", "--count")
        if len(number) > len(str(MOST_EVENTS)) or int(number) > MOST_EVENTS:
            shown = one_line(text, _SHOWN)
            raise BadQuestionError(f"{shown!r}: at most {MOST_EVENTS:,} events can be planned for", "--count")
        _check_type("--count", name, settings)
        if name in counts:
            raise BadQuestionError(f"{name!r} is given twice", "--count")
        counts[name] = int(number)
    other = load_settings(settings.source, overrides=asked.told) if asked.told else settings
    added: dict[str, str] = {}
    for text in asked.add:
        name, _, endpoint = text.partition("=")
        if not is_name(endpoint):
            raise BadQuestionError(
                f"{text!r} is not TYPE=NAME, for example REBALANCE_NEEDED=another_api", "--add-endpoint"
            )
        _check_type("--add-endpoint", name, other)
        if endpoint in {*added, *other.endpoints, *other.budgets}:
            raise BadQuestionError(f"{endpoint!r} is an endpoint or a budget already", "--add-endpoint")
        added[endpoint] = name
    if asked.workers and asked.workers > MOST_WORKERS:
        shown = one_line(f"{asked.workers:,}", _SHOWN)
        raise BadQuestionError(f"{shown}: workers.max cannot be more than {MOST_WORKERS:,}", "--workers")
    return Question(asked, counts, added, other)


def _check_type(option: str, name: str, settings: Settings) -> None:
    if name not in settings.types:
        hint, names = did_you_mean(name, settings.types), ", ".join(kind.name for kind in settings.event_types)
        raise BadQuestionError(f"{name!r} is not a configured type{hint}; there are {names}", option)


class Case(msgspec.Struct, frozen=True):
    """The present or hypothetical case in which a backlog is planned.

    `gone_seconds` is the time from a run's start to its first call; `added` are hypothetical endpoints; `room` is how
    many workers the hosts take, if known. `lacking` is why a run would come to nothing now, else empty.
    """

    settings: Settings
    types: tuple[EventType, ...]
    windows: Mapping[str, WindowState]
    expected: Mapping[Pair, Expected]
    gone_seconds: float
    room: int | None
    lacking: str
    workers: int | None = None
    added: tuple[Endpoint, ...] = ()

    @property
    def suspect(self) -> list[str]:
        """The endpoints that failed and have not answered well since: no plan counts on them."""
        return [name for name, window in self.windows.items() if window.suspect]

    @property
    def assumptions(self) -> str:
        """The differences from the present, in words; empty for the present case."""
        parts = [f"{key} = {toml_value(value)}" for key, value in _by_option(self.settings).items()]
        parts += [f"one more endpoint, {endpoint.name} ({endpoint.limit.text})" for endpoint in self.added]
        parts += [f"exactly {counted(self.workers, 'worker')}"] if self.workers else []
        return "; ".join(parts)

    def assumed(self) -> Assumptions:
        """Return the assumptions of this case."""
        added = (AddedEndpoint(endpoint=each.name, rate_limit=each.limit.text) for each in self.added)
        settings = _by_option(self.settings)
        return Assumptions(settings=settings, added_endpoints=tuple(added), workers=self.workers)

    def forecast(
        self, events: Mapping[str, int], arrivals: Mapping[str, float] | None, open_run: str | None
    ) -> Forecast:
        """Plan a run of these `events` that starts now, and look ahead at what becomes of its leftovers."""
        run, capacity = self.settings.run, planning.capacity_of(self.settings, room=self.room).exactly(self.workers)
        workload = Workload(events, self.types, self.windows, self.expected)
        plan = planning.plan_run(self.settings, workload, capacity, gone_seconds=self.gone_seconds)
        outlook = arrivals and look_ahead(plan, {name: rate * run.every_seconds for name, rate in arrivals.items()})
        return Forecast(self, plan, outlook or None, open_run)


class Forecast(msgspec.Struct, frozen=True):
    """The plan of one case, and the outlook if it is known what arrives.

    `open_run` is the id of an open run, which works on part of the planned events.
    """

    case: Case
    plan: Plan
    outlook: Outlook | None
    open_run: str | None

    def view(self, unread: int) -> PlanView:
        """Return the document of the plan; `unread` items were not read."""
        return replace(
            msgspec.convert(self.plan, PlanView, from_attributes=True),
            start_seconds=round(self.case.gone_seconds, 3),
            open_run=self.open_run,
            lacking=self.case.lacking or None,
            gone_in_windows=self.outlook and self.outlook.windows,
            unread=unread,
        )

    @property
    def done_seconds(self) -> float:
        """When the last event that fits is answered, in seconds from now."""
        return self.plan.first_call_seconds + self.plan.forecast_seconds

    @property
    def end_seconds(self) -> float:
        """The same, in seconds from the start of the run."""
        return self.case.gone_seconds + self.done_seconds

    @property
    def events(self) -> int:
        """The number of planned events."""
        return sum(part.events for part in self.plan.by_type.values())


class PlanAnswer(msgspec.Struct, frozen=True):
    """The forecast of the present case, followed by that of the hypothetical case if one was asked for.

    Too many items wait to read them all: `unread` are not planned for.
    """

    forecasts: Sequence[Forecast]
    unread: int

    def view(self) -> PlanView:
        """Return the document of `rlm plan --json`."""
        today, *what_if = [forecast.view(self.unread) for forecast in self.forecasts]
        if not what_if:
            return today
        return replace(what_if[-1], what_if=self.forecasts[-1].case.assumed(), today=today)


def answer(store: Store, question: Question) -> PlanAnswer:
    """Read the waiting events and the windows, and plan; nothing is taken or changed.

    For given numbers, the content of windows and the living processes are ignored.
    """
    counts = question.counts
    case = _as_it_is(store, planning.start_seconds(store), fresh=bool(counts))
    cases = [case, *([_as_it_might_be(store, case, question)] if question.is_what_if else [])]
    names, waiting = [kind.name for kind in store.settings.event_types], None if counts else backlog(store)
    events = {name: (waiting.events if waiting else counts).get(name, 0) for name in names}
    arrivals, open_run = planning.measured_arrivals(store), waiting.run.id if waiting and waiting.run else None
    forecasts = [each.forecast(events, arrivals, open_run) for each in cases]
    return PlanAnswer(forecasts, waiting.unread if waiting else 0)


def _as_it_is(store: Store, gone_seconds: float, *, fresh: bool) -> Case:
    """Return the case of a run that starts now."""
    types = planning.types_in_force(store)
    endpoints = _endpoints(types)
    return Case(
        store.settings,
        types,
        {} if fresh else planning.live_windows(store, endpoints, ahead_seconds=gone_seconds),
        store.measures.learned(types),
        gone_seconds,
        room=planning.room_of(store),
        lacking="" if fresh else standstill(conditions(store)),
    )


def _as_it_might_be(store: Store, today: Case, question: Question) -> Case:
    """Return the hypothetical case. A limit in force overrides that of the settings, unless an option set it."""
    settings, workers = question.settings, question.asked.workers
    by_option = _limits_by_option(settings)
    limits = {name: text for name, text in store.limits().items() if name not in by_option}
    types = {
        kind.name: replace(kind, endpoints=tuple(in_force(endpoint, limits) for endpoint in kind.endpoints))
        for kind in settings.event_types
    }
    added, expected = list[Endpoint](), dict(today.expected)
    for kind in types.values():
        if dotted(("types", kind.name, "processing_seconds")) in _by_option(settings):
            expected = {pair: each for pair, each in expected.items() if pair[0] != kind.name}
    for name, of_type in question.added.items():
        kind = types[of_type]
        added.append(replace(kind.one_more(name), url=f"what-if:{name}"))
        types[of_type] = replace(kind, endpoints=(*kind.endpoints, added[-1]))
        if usual := expected.get((of_type, kind.endpoints[-1].name)):
            expected[of_type, name] = usual
    endpoints, guard_seconds = _endpoints(types.values()), settings.run.guard_seconds
    windows = {}
    if not question.counts:
        ahead = today.gone_seconds
        windows = planning.live_windows(store, endpoints, ahead_seconds=ahead, guard_seconds=guard_seconds)
    return replace(
        today,
        settings=settings,
        types=tuple(types.values()),
        windows=windows,
        expected=expected,
        workers=workers,
        added=tuple(added),
        room=today.room if settings.workers == today.settings.workers else None,  # the room follows workers.max
        lacking="" if workers else today.lacking,
    )


def _endpoints(types: Iterable[EventType]) -> list[Endpoint]:
    return [endpoint for kind in types for endpoint in kind.endpoints]


def _by_option(settings: Settings) -> dict[str, object]:
    """Return the settings that an option set, by key, with secrets masked."""
    return {shown.key: shown.value for shown in settings.shown if shown.where == OPTION}


def _limits_by_option(settings: Settings) -> set[str]:
    """Return the names of the endpoints and budgets whose limit an option set."""
    keys = set(_by_option(settings))
    names = {budget for budget in settings.budgets if dotted(("budgets", budget, "rate_limit")) in keys}
    for name, described in settings.types.items():
        for number, endpoint in enumerate(described.endpoints):
            own = ("types", name, "endpoints", number, "rate_limit")
            if dotted(own if endpoint.rate_limit else ("types", name, "rate_limit")) in keys:
                names.add(endpoint.name)
    return names


def verdict_on(found: Forecast) -> Verdict:
    """Return the verdict on a forecast: whether everything is done in time, and what is left over if not."""
    plan, alone = found.plan, safe_line(found.case.lacking)
    if not found.events:
        return Verdict(Level.REST, "Nothing to do")
    if not plan.fits:
        of = f"{plan.expected_leftover:,} of {counted(found.events, 'event')}"
        left = f"{of} {'would' if alone else 'will'} be left over"
        may_wait = plan.releases and not alone
        return Verdict(Level.WARN if may_wait else Level.BAD, left, alone or plan.binds)
    early = found.case.settings.run.window_seconds - found.end_seconds
    done = "The event is" if found.events == 1 else f"All {found.events:,} events are"
    done += f" done {span(max(0.0, early))} before the deadline"
    if alone:
        return Verdict(Level.BAD, f"{done}, once there is somebody to do it", alone)
    return Verdict(Level.WELL, done, plan.binds)


def side_by_side(*found: Forecast) -> Iterator[list[str]]:
    """Yield the rows of a table with one column per forecast. Forecasts count from their first call."""
    plans = [one.plan for one in found]
    is_late = any(one.first_call_seconds >= WORTH_A_LINE_SECONDS or not one.releases for one in plans)
    yield ["workers", *(f"{one.workers:,}" for one in plans)]
    if is_late:
        yield ["first call in", *(f"{one.first_call_seconds:.1f} s" if one.releases else "-" for one in plans)]
    yield ["forecast", *(length(one.forecast_seconds) for one in plans)]
    yield ["lower bound", *(length(one.lower_bound_seconds) for one in plans)]
    if is_late:
        yield ["last answer in", *(length(one.done_seconds) for one in found)]
    yield ["left over", *(f"{one.expected_leftover:,}" for one in plans)]
    for name, part in plans[0].by_type.items():
        if part.events:
            done = (one.by_type[name].events - one.by_type[name].expected_leftover for one in plans)
            yield [f"{name} done", *(f"{number:,}" for number in done)]


def length(seconds: float) -> str:
    """Return a duration of a plan; a dash for none."""
    return f"{seconds:.1f} s" if seconds else "-"
