"""Forecasts of a run in the present or a hypothetical case: other settings, endpoints or number of workers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from rlm.admin import planning
from rlm.admin.attendance import led_otherwise, nobody_does
from rlm.core.endpoint import Endpoint, EventType, in_force
from rlm.core.expected import Expected, Pair
from rlm.core.text import counted
from rlm.core.window import WindowState
from rlm.ledger import Store
from rlm.ledger.measures import learned
from rlm.ledger.reading.backlog import Backlog
from rlm.plan import Plan
from rlm.plan.outlook import Outlook, look_ahead
from rlm.plan.situation import Capacity, Workload
from rlm.settings import Settings
from rlm.settings.layers import OPTION
from rlm.settings.toml import dotted, toml_value

#: A plan reports an endpoint if at least this part of its calls is expected to fail.
WORTH_TELLING = 0.005


class Case(msgspec.Struct, frozen=True):
    """The present or hypothetical case in which a backlog is planned.

    `gone_seconds` is the time from a run's start to its first call; `added` are hypothetical endpoints; `room` is how
    many workers the hosts take, if known. `lacking` is why a run would come to nothing now, `led_otherwise` that runs
    use another configuration; both are empty otherwise. `arrivals` are events a second by type, as in the last runs;
    None if they are not known.
    """

    settings: Settings
    types: tuple[EventType, ...]
    windows: Mapping[str, WindowState]
    expected: Mapping[Pair, Expected]
    gone_seconds: float
    workers: int | None = None
    added: tuple[Endpoint, ...] = ()
    room: int | None = None
    lacking: str = ""
    led_otherwise: str = ""
    arrivals: Mapping[str, float] | None = None

    @property
    def suspect(self) -> list[str]:
        """The endpoints that failed and have not answered well since: no plan counts on them."""
        return [name for name, window in self.windows.items() if window.suspect]

    @property
    def failing(self) -> dict[str, float]:
        """The measured error rates of the endpoints that are worth a report."""
        rates: dict[str, float] = {}
        for (_, endpoint), expected in self.expected.items():
            rates[endpoint] = max(rates.get(endpoint, 0.0), expected.error_rate)
        return {name: rate for name, rate in sorted(rates.items()) if rate >= WORTH_TELLING}

    @property
    def assumptions(self) -> str:
        """The differences from the present, in words; empty for the present case."""
        parts = [f"{key} = {toml_value(value)}" for key, value in told(self.settings).items()]
        parts += [f"one more endpoint, {one.name} ({one.limit.text})" for one in self.added]
        parts += [f"exactly {counted(self.workers, 'worker')}"] if self.workers else []
        return "; ".join(parts)

    def assumed(self) -> dict[str, Any]:
        """Return the assumptions of this case for `rlm plan --json`."""
        return {
            "settings": told(self.settings),
            "added_endpoints": [{"endpoint": one.name, "rate_limit": one.limit.text} for one in self.added],
            "workers": self.workers,
        }

    def forecast(self, backlog: Backlog) -> Forecast:
        """Plan a run that starts now, and look ahead at what becomes of its leftovers."""
        workload = self.workload(backlog.events)
        plan = planning.plan_run(self.settings, workload, self._capacity, gone_seconds=self.gone_seconds)
        outlook, every = None, self.settings.run.every_seconds
        if self.arrivals is not None:
            outlook = look_ahead(plan, {name: rate * every for name, rate in self.arrivals.items()})
        return Forecast(self, plan, outlook, backlog.run.id if backlog.run else None)

    def workload(self, events: Mapping[str, int]) -> Workload:
        """Return the workload of this case with these `events` by type."""
        return Workload(events, self.types, self.windows, self.expected)

    @property
    def _capacity(self) -> Capacity:
        return planning.capacity_of(self.settings, room=self.room).exactly(self.workers)


@dataclass(frozen=True, slots=True)
class Forecast:
    """The plan of one case, and the outlook if it is known what arrives.

    `open_run` is the id of an open run, which works on part of the planned events.
    """

    case: Case
    plan: Plan
    outlook: Outlook | None
    open_run: str | None

    def as_json(self) -> dict[str, Any]:
        """Return the document of the plan."""
        return self.plan.as_json() | {
            "start_seconds": round(self.case.gone_seconds, 3),
            "failing": self.case.failing,
            "open_run": self.open_run,
            "lacking": self.case.lacking or None,
            "led_otherwise": self.case.led_otherwise or None,
            "gone_in_windows": self.outlook and self.outlook.windows,
        }

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


def as_it_is(store: Store, gone_seconds: float, *, fresh: bool) -> Case:
    """Return the case of a run that starts now; `fresh` ignores the content of windows and the living processes."""
    types = planning.types_in_force(store)
    windows = {} if fresh else planning.live_windows(store, _endpoints(types), ahead_seconds=gone_seconds)
    expected, room, lacking = learned(store, types), planning.room_of(store), "" if fresh else nobody_does(store)
    return Case(
        store.settings,
        types,
        windows,
        expected,
        gone_seconds,
        room=room,
        lacking=lacking,
        led_otherwise=led_otherwise(store),
        arrivals=planning.measured_arrivals(store),
    )


def as_it_might_be(
    store: Store, today: Case, settings: Settings, add: Mapping[str, str], workers: int | None, *, fresh: bool
) -> Case:
    """Return the case with these `settings`, and with more overflow endpoints: `add` has the type of each by name.

    A limit in force overrides that of the settings, unless an option set it.
    """
    overridden = _limits_told(settings)
    limits = {name: text for name, text in store.limits().items() if name not in overridden}
    types = tuple(
        replace(kind, endpoints=tuple(in_force(one, limits) for one in kind.endpoints)) for kind in settings.event_types
    )
    added = []
    for name, of_type in add.items():
        kind = next(one for one in types if one.name == of_type)
        added.append(replace(kind.one_more(name), url=f"what-if:{name}"))
        types = tuple(replace(one, endpoints=(*one.endpoints, added[-1])) if one is kind else one for one in types)
    windows = {} if fresh else _windows(store, today, types, settings.run.guard_seconds)
    expected, lacking = _expected(today, types, settings, added), "" if workers else today.lacking
    room = today.room if settings.workers == today.settings.workers else None  # the room of hosts follows workers.max
    return Case(
        settings,
        types,
        windows,
        expected,
        today.gone_seconds,
        workers,
        tuple(added),
        room,
        lacking,
        today.led_otherwise,
        today.arrivals,
    )


def told(settings: Settings) -> dict[str, Any]:
    """Return the settings that an option set, by key, with secrets masked."""
    return {shown.key: shown.value for shown in settings.shown if shown.where == OPTION}


def _endpoints(types: Iterable[EventType]) -> list[Endpoint]:
    return [endpoint for one in types for endpoint in one.endpoints]


def _limits_told(settings: Settings) -> set[str]:
    """Return the names of the endpoints and budgets whose limit an option set."""
    keys = set(told(settings))
    found = {budget for budget in settings.budgets if dotted(("budgets", budget, "rate_limit")) in keys}
    for name, described in settings.types.items():
        for number, endpoint in enumerate(described.endpoints):
            own = ("types", name, "endpoints", number, "rate_limit")
            if dotted(own if endpoint.rate_limit else ("types", name, "rate_limit")) in keys:
                found.add(endpoint.name)
    return found


def _windows(store: Store, today: Case, types: Sequence[EventType], guard_seconds: float) -> dict[str, WindowState]:
    """Read the windows by the new limits, which may count further back."""
    read = partial(planning.live_windows, store, ahead_seconds=today.gone_seconds, guard_seconds=guard_seconds)
    windows = read(_endpoints(types))
    for name, joining in _joining(today.types, types).items():
        earlier = (age for window in read(joining).values() for age in window.ages)
        windows[name] = replace(windows[name], ages=(*windows[name].ages, *earlier))
    return windows


def _joining(today: Iterable[EventType], types: Iterable[EventType]) -> dict[str, list[Endpoint]]:
    """Return the endpoints that join each budget, with its limit: the budget will count their earlier calls."""
    named = {(one.window_id, one.budget.name) for one in _endpoints(today) if one.budget}
    found: dict[str, list[Endpoint]] = defaultdict(list)
    for one in {endpoint.name: endpoint for endpoint in _endpoints(types)}.values():
        if one.budget and (one.window_id, one.budget.name) not in named:
            found[one.budget.name].append(replace(one, limit=one.budget.limit, budget=None))
    return found


def _expected(
    today: Case, types: Iterable[EventType], settings: Settings, added: Iterable[Endpoint]
) -> dict[Pair, Expected]:
    """Return the expected calls: as measured, unless an option sets their duration.

    An added endpoint is like the last one of its type, if that was measured. Others stay as configured.
    """
    by_option, new = told(settings), {one.name for one in added}
    found = dict(today.expected)
    for kind in types:
        if dotted(("types", kind.name, "processing_seconds")) in by_option:
            found = {pair: one for pair, one in found.items() if pair[0] != kind.name}
            continue
        *_, last = [endpoint for endpoint in kind.endpoints if endpoint.name not in new]
        more = [(kind.name, endpoint.name) for endpoint in kind.endpoints if endpoint.name in new]
        if usual := found.get((kind.name, last.name)):
            found |= dict.fromkeys(more, usual)
    return found
