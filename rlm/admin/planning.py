"""Plans: their input, read from the store; a question to `rlm plan` and its answer."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from rlm.admin.conditions import conditions, is_grave, look
from rlm.admin.errors import BadQuestionError
from rlm.admin.queue import queue_stats
from rlm.admin.text import Texts, span
from rlm.admin.words import Verdict, told
from rlm.core.clock import timestamp
from rlm.core.documents import Plan
from rlm.core.endpoint import ANSWER_SLACK_SECONDS, EventType, all_limited, in_force
from rlm.core.text import counted, is_name, safe_line
from rlm.ledger.leases import Present
from rlm.ledger.processes import Role, WorkerState
from rlm.ledger.store import Store
from rlm.plan import compute_plan
from rlm.plan.situation import Capacity, Horizon, Workload
from rlm.processes import sharing
from rlm.settings import Settings, load_settings
from rlm.settings.layers import did_you_mean
from rlm.settings.secrets import mask

#: Seconds a lane needs from an answer to its next call: it settles, and asks. Measured on two cores with 100 lanes.
TURNAROUND_SECONDS = 0.008
#: Seconds from when a slot comes back until it is taken again, if events wait only for it: a lane wakes, and asks. So a
#: plan adds it to every period.
REFILL_SECONDS = 0.003
#: Seconds between two calls if there is work for many lanes at once: Redis answers one turn after the other.
APART_SECONDS = 0.0003
#: Seconds from a plan to the first call of its run if a worker is ready: its lane is woken, and asks.
START_SECONDS = 0.05
#: The same if no worker is ready: each start takes 0.1 to 0.3 s.
COMING_UP_SECONDS = 0.5
#: The number of newest runs by which arrivals are measured.
MEASURED_RUNS = 20
#: The most events to plan for: every JSON reader can represent this number.
MOST_EVENTS = 10**15


def types_in_force(store: Store, limits: Mapping[str, str] | None = None) -> tuple[EventType, ...]:
    """Return the configured types with the limits in force, from high to low priority; unless given they are read."""
    return tuple(_limited(store.settings.event_types, store.limits() if limits is None else limits))


def _limited(kinds: Iterable[EventType], limits: Mapping[str, str]) -> Iterator[EventType]:
    for kind in kinds:
        yield replace(kind, endpoints=tuple(in_force(endpoint, limits) for endpoint in kind.endpoints))


def room_of(settings: Settings, there: Present) -> int | None:
    """Return how many workers the living hosts take; None if it is unknown, or there is neither supervisor nor worker.

    Without a supervisor it is the number of workers started by hand, because nobody starts more.
    """
    if supervisors := there.living(Role.SUPERVISOR):
        return sharing.room(sharing.serving(supervisors, there.lease.revision))
    by_hand = [each for each in there.living(Role.WORKER) if not each.supervisor]
    able = [each for each in by_hand if each.revision == settings.revision and each.state != WorkerState.STOPPING]
    return len(able) or None


def capacity_of(
    settings: Settings, at_least: int = 0, turnaround_seconds: float = TURNAROUND_SECONDS, *, room: int | None = None
) -> Capacity:
    """Return how many workers there may be, by the settings and the `room` of the hosts; None is no bound.

    There are at least `at_least` workers, because they already exist. Without any room the plan uses all that the
    settings allow, and the run reports that no host takes any.
    """
    workers = settings.workers
    most = min(workers.max, room or workers.max)
    least = min(most, max(workers.min, at_least))
    return Capacity(least, most, workers.threads, turnaround_seconds)


def plan_run(
    settings: Settings, workload: Workload, capacity: Capacity, gone_seconds: float, window_seconds: float
) -> Plan:
    """Plan a run in a window whose first call can be made `gone_seconds` after its start."""
    horizon = Horizon(
        deadline_seconds=max(0.0, window_seconds - gone_seconds - ANSWER_SLACK_SECONDS),
        target_seconds=max(0.0, window_seconds * settings.run.target - gone_seconds),
        guard_seconds=settings.run.guard_seconds + REFILL_SECONDS,
        gone_seconds=gone_seconds,
        apart_seconds=APART_SECONDS,
    )
    return compute_plan(workload, capacity, horizon)


def measured_arrivals(store: Store) -> dict[str, float] | None:
    """Return the events taken a second over the last `MEASURED_RUNS` runs, by type; None without a whole window.

    The time counts from the first start to the last, or to the last tick, because a tick with nothing to do leaves no
    record. The events of the first run do not count: they arrived earlier, over an unknown time.
    """
    records = [(timestamp(record.started_at), record) for record in store.runs.recent(MEASURED_RUNS + 1)]
    first = min((start for start, _ in records), default=0.0)
    seconds = max([store.leases.read().ticked_at or 0.0, *(start for start, _ in records)]) - first
    if not records or round(seconds / store.settings.run.every_seconds) < 1:
        return None
    later = [record.by_type for start, record in records if start > first]
    names = [kind.name for kind in store.settings.event_types]
    return {name: sum(by_type[name].taken for by_type in later if name in by_type) / seconds for name in names}


# -- a question to `rlm plan`


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
    """The plan of one case, and in how many windows the backlog is gone, in words: `outlook`.

    It is empty if it is not known what arrives. `gone_seconds` is the time from a run's start to the moment planned
    for; `lacking` why a run would come to nothing now, else empty.
    """

    plan: Plan
    outlook: str
    gone_seconds: float
    window_seconds: float
    lacking: str

    @property
    def end_seconds(self) -> float:
        """When the last event that fits is answered, in seconds from the start of the run."""
        return self.gone_seconds + self.plan.first_call_seconds + self.plan.forecast_seconds

    @property
    def events(self) -> int:
        """The number of planned events."""
        return sum(part.events for part in self.plan.by_type.values())

    @property
    def left(self) -> int:
        """The number of those that do not fit."""
        return self.events - self.plan.fitting

    @property
    def verdict(self) -> Verdict:
        """Whether everything is done in time, and what is left over if not."""
        plan, alone = self.plan, safe_line(self.lacking)
        if not self.events:
            return Verdict("rest", "Nothing to do")
        if not plan.fits:
            left = f"{self.left:,} of {counted(self.events, 'event')} will be left over"
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


def view_of(forecasts: Sequence[Forecast], question: Question) -> Plan:
    """Return the document of `rlm plan --json`."""
    today, *what_if = (forecast.plan for forecast in forecasts)
    return replace(what_if[0], what_if=" ".join(question.asked.assumptions), today=today) if what_if else today


def _forecast(store: Store, question: Question) -> Forecast:
    """Plan a run that starts now, and look ahead at what becomes of its leftovers."""
    settings, workers, numbers, windows = question.settings, question.asked.workers, question.counts, {}
    scene = look(store)
    there = scene.there
    types, window_seconds = _types(store, question, there.limits), settings.run.window_seconds
    is_ready = any(worker.state == WorkerState.READY for worker in there.living(Role.WORKER))
    gone_seconds = START_SECONDS if is_ready else COMING_UP_SECONDS
    if not question.counts:
        numbers, read = {name: count.unsettled for name, count in scene.books.by_type.items()}, scene.books.windows
        if scene.books.staged or scene.books.events:  # what items hold is only known by reading them
            numbers = {name: waiting.pending for name, waiting in queue_stats(store).by_type.items()}
        if settings is not store.settings or question.added:
            _, read = store.windows.look(all_limited(endpoint for kind in types for endpoint in kind.endpoints))
        windows = {name: window.later(gone_seconds) for name, window in read.items()}
    configured = {(kind.name, kind.processing_seconds) for kind in store.settings.event_types}
    anew = {kind.name for kind in types if (kind.name, kind.processing_seconds) not in configured}
    store.calls.look()
    expected = {pair: each for pair, each in store.calls.expected(types).items() if pair[0] not in anew}
    follows = settings.workers != store.settings.workers  # the room of the hosts follows workers.max
    room = None if follows else room_of(store.settings, there)
    capacity = capacity_of(settings, room=room).exactly(workers)
    workload = Workload({kind.name: numbers.get(kind.name, 0) for kind in types}, types, windows, expected)
    plan = plan_run(settings, workload, capacity, gone_seconds, window_seconds)
    windows_left, outlook = _look_ahead(plan, measured_arrivals(store), settings.run.every_seconds)
    lacking = "" if question.counts or workers else "; ".join(map(told, filter(is_grave, conditions(store, scene))))
    plan = replace(plan, gone_in_windows=windows_left)
    return Forecast(plan, outlook, gone_seconds, window_seconds, lacking)


def _look_ahead(plan: Plan, rates: Mapping[str, float] | None, every_seconds: float) -> tuple[int | None, str]:
    """Return in how many windows nothing is left over, as a number and in words; `rates` are arrivals a second.

    The same arrives in every window, and each is like the planned one.
    """
    if not rates:
        return None, ""
    windows = 1
    for name, part in plan.by_type.items():
        if part.expected_leftover:
            shrinks = part.events - part.expected_leftover - rates.get(name, 0.0) * every_seconds
            if shrinks <= 0:
                return None, "At the arrivals of the last runs the backlog does not shrink."
            windows = max(windows, 1 + math.ceil(part.expected_leftover / shrinks))
    return windows, f"At the arrivals of the last runs the backlog is gone in {counted(windows, 'window')}."


def _types(store: Store, question: Question, published: Mapping[str, str]) -> tuple[EventType, ...]:
    """Return the types of a question; a limit in force stands for one in the settings that is as it is today."""
    today, planned = (
        {each.name: each.limit for each in all_limited(settings.endpoints.values())}
        for settings in (store.settings, question.settings)
    )
    limits = {name: text for name, text in published.items() if today[name] == planned.get(name)}
    types = {kind.name: kind for kind in _limited(question.settings.event_types, limits)}
    for name, of_type in question.added.items():
        # Like the last, with the limit of the type, and in the budget if all are in it.
        kind, last = types[of_type], types[of_type].endpoints[-1]
        budget = last.budget if len({each.budget for each in kind.endpoints}) == 1 else None
        more = replace(last, name=name, url=f"what-if:{name}", limit=kind.limit or last.limit, budget=budget)
        types[of_type] = replace(kind, endpoints=(*kind.endpoints, more))
    return tuple(types.values())


def side_by_side(*forecasts: Forecast) -> Iterator[list[str]]:
    """Yield the rows of a table with one column per forecast. Forecasts count from their first call."""
    plans = [each.plan for each in forecasts]
    yield ["workers", *(f"{each.workers:,}" for each in plans)]
    yield ["first call in", *(f"{each.first_call_seconds:.1f} s" if each.releases else "-" for each in plans)]
    yield ["forecast", *(_length(each.forecast_seconds) for each in plans)]
    yield ["lower bound", *(_length(each.lower_bound_seconds) for each in plans)]
    yield ["left over", *(f"{each.left:,}" for each in forecasts)]
    for name, part in plans[0].by_type.items():
        if part.events:
            done = (each.by_type[name].events - each.by_type[name].expected_leftover for each in plans)
            yield [f"{name} done", *(f"{number:,}" for number in done)]


def _length(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds else "-"
