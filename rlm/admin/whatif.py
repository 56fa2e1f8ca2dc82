"""What-if plans: with other settings, more endpoints, or another number of workers."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rlm.admin.planning import capacity_of, horizon_of, live_windows, plan_run, types_in_force
from rlm.core.endpoint import all_limited, in_force
from rlm.core.window import WindowState
from rlm.ledger.measures import learned
from rlm.ledger.windows import Windows
from rlm.plan import Workload, carried, course_of, look_ahead
from rlm.plan.outlook import LongRun
from rlm.settings.document import OPTION
from rlm.settings.toml import dotted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rlm.core.endpoint import Endpoint, EventType, Limited
    from rlm.core.expected import Expected, Pair
    from rlm.ledger import Store
    from rlm.ledger.windows import Windows
    from rlm.plan import Plan
    from rlm.plan.outlook import Outlook
    from rlm.plan.simulate import Course, Start
    from rlm.settings import Settings

_NUMBERED = re.compile(r"(?P<stem>.*_)(?P<number>\d+)")

#: A plan reports that calls of an endpoint fail if at least this part of them is expected to.
WORTH_TELLING = 0.005


@dataclass(frozen=True, slots=True)
class Case:
    """What a backlog is planned with: as things are, or as they might be.

    `gone_seconds` is the time from a run's start to its first call; `added` are the endpoints that do not exist.
    """

    settings: Settings
    types: tuple[EventType, ...]
    windows: Mapping[str, WindowState]
    expected: Mapping[Pair, Expected]
    gone_seconds: float
    workers: int | None = None
    added: tuple[Endpoint, ...] = ()

    @property
    def told(self) -> dict[str, Any]:
        """The settings that an option set, by key, secrets masked."""
        return told(self.settings)

    @property
    def suspect(self) -> list[str]:
        """The endpoints that failed and have not answered well since: no plan counts on them."""
        return [name for name, window in self.windows.items() if window.suspect]

    @property
    def failing(self) -> dict[str, float]:
        """The endpoints of which some calls are expected to fail, as measured, and which part."""
        rates: dict[str, float] = {}
        for (_, endpoint), expected in self.expected.items():
            rates[endpoint] = max(rates.get(endpoint, 0.0), expected.error_rate)
        return {name: rate for name, rate in sorted(rates.items()) if rate >= WORTH_TELLING}

    def assumed(self) -> dict[str, Any]:
        """Return the assumptions of this case for `rlm plan --json`."""
        return {
            "settings": self.told,
            "added_endpoints": [{"endpoint": one.name, "rate_limit": one.limit.text} for one in self.added],
            "workers": self.workers,
        }

    def plan(self, backlog: Mapping[str, int]) -> Plan:
        """Plan a run that starts now."""
        capacity = capacity_of(self.settings).exactly(self.workers)
        return plan_run(self.settings, self._workload(backlog), capacity, gone_seconds=self.gone_seconds)

    def outlook(self, backlog: Mapping[str, int], arrivals: Mapping[str, float], number: int) -> Outlook:
        """Plan up to `number` runs one after the other; `arrivals` come between the starts of two, by type."""
        run, horizon = self.settings.run, horizon_of(self.settings, self.gone_seconds)
        capacity = capacity_of(self.settings).exactly(self.workers)

        def plan(workload: Workload) -> Course:
            return course_of(workload, capacity, horizon)

        def carry(workload: Workload, starts: Sequence[Start]) -> Mapping[str, WindowState]:
            return carried(workload, starts, run.every_seconds, run.guard_seconds)

        long_run = LongRun.of(self.types, self.suspect, run.every_seconds, run.guard_seconds)
        return look_ahead(self._workload(backlog), arrivals, number, plan, carry, long_run)

    def _workload(self, backlog: Mapping[str, int]) -> Workload:
        return Workload(backlog, self.types, self.windows, self.expected)


def as_it_is(store: Store, gone_seconds: float, *, fresh: bool) -> Case:
    """Return the case of a run that starts now; `fresh` leaves out what the windows hold.

    Raises:
        StoreError: Redis did not answer.
    """
    types = types_in_force(store)
    windows = {} if fresh else live_windows(store, _endpoints(types), ahead_seconds=gone_seconds)
    return Case(store.settings, types, windows, learned(store, types), gone_seconds)


def as_it_might_be(
    store: Store, today: Case, settings: Settings, add: Iterable[str], workers: int | None, *, fresh: bool
) -> Case:
    """Return the case of these `settings`, with one more overflow endpoint for each type named in `add`.

    A limit in force overrides that of the settings, unless an option set it.

    Raises:
        StoreError: Redis did not answer.
    """
    overridden = _limits_told(settings)
    limits = {name: text for name, text in store.limits().items() if name not in overridden}
    types = tuple(
        replace(kind, endpoints=tuple(in_force(one, limits) for one in kind.endpoints)) for kind in settings.event_types
    )
    added = []
    for name in add:
        kind = next(one for one in types if one.name == name)
        free_name = _free_name(kind, {one.name for one in _limited(types)})
        added.append(replace(kind.one_more(free_name), url=f"what-if:{free_name}"))
        more = replace(kind, endpoints=(*kind.endpoints, added[-1]))
        types = tuple(more if one is kind else one for one in types)
    windows = {} if fresh else {**today.windows, **_windows_anew(store, today, types, settings)}
    return Case(
        settings, types, windows, _expected(today, types, settings, added), today.gone_seconds, workers, tuple(added)
    )


def told(settings: Settings) -> dict[str, Any]:
    """Return the settings that an option set, by key, secrets masked."""
    return {shown.key: shown.value for shown in settings.shown if shown.where == OPTION}


def _limited(types: Iterable[EventType]) -> list[Limited]:
    return all_limited(_endpoints(types))


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


def _free_name(kind: EventType, taken: set[str]) -> str:
    """Return the next number of the type's overflow endpoints, or the first."""
    *_, last = kind.endpoints
    found = _NUMBERED.fullmatch(last.name)
    stem, first = (found["stem"], int(found["number"]) + 1) if found else (f"{kind.endpoints[0].name}_extra_", 1)
    return next(name for number in itertools.count(first) if (name := f"{stem}{number}") not in taken)


def _windows_anew(store: Store, today: Case, types: Sequence[EventType], settings: Settings) -> dict[str, WindowState]:
    """Read the windows again that the new limits see differently: a limit may count further back."""
    known = {one.window_id: one for one in _limited(today.types)}
    guard_seconds = settings.run.guard_seconds
    look = store.windows.with_guard(guard_seconds)
    now_us, _ = look.look(())
    anew = {}
    for one in _limited(types):
        before = known.get(one.window_id)
        same = before and (before.name, before.limit) == (one.name, one.limit)
        if not same or guard_seconds != today.settings.run.guard_seconds:
            ages = _ages(look, [one], now_us, today)
            anew[one.name] = replace(today.windows[before.name], ages=ages) if before else WindowState(ages=ages)
    for name, joining in _joining(today.types, types).items():
        window = anew.get(name) or today.windows.get(name, WindowState())
        anew[name] = replace(window, ages=(*window.ages, *_ages(look, joining, now_us, today)))
    return anew


def _ages(look: Windows, limited: Sequence[Limited], now_us: int, today: Case) -> tuple[float, ...]:
    """Return the age of each slot of these at the run's first call."""
    return tuple(age + today.gone_seconds for ages in look.ages(limited, now_us).values() for age in ages)


def _joining(today: Iterable[EventType], types: Iterable[EventType]) -> dict[str, list[Endpoint]]:
    """Return the endpoints that join each budget, with its limit: it will count their earlier calls."""
    named = {(one.window_id, one.budget.name) for one in _endpoints(today) if one.budget}
    found: dict[str, dict[str, Endpoint]] = defaultdict(dict)
    for one in _endpoints(types):
        if one.budget and (one.window_id, one.budget.name) not in named:
            found[one.budget.name][one.name] = replace(one, limit=one.budget.limit)
    return {name: list(endpoints.values()) for name, endpoints in found.items()}


def _expected(
    today: Case, types: Sequence[EventType], settings: Settings, added: Sequence[Endpoint]
) -> dict[Pair, Expected]:
    """Return what to expect of calls: what was measured, unless an option set it.

    An added endpoint is like the last one of its type, measured or not. One that was never called stays as configured.
    """
    by_option = told(settings)
    found = dict(today.expected)
    for kind in types:
        if dotted(("types", kind.name, "processing_seconds")) in by_option:
            found = {pair: one for pair, one in found.items() if pair[0] != kind.name}
            continue
        *_, last = [endpoint for endpoint in kind.endpoints if endpoint not in added]
        more = [(kind.name, endpoint.name) for endpoint in kind.endpoints if endpoint in added]
        if usual := found.get((kind.name, last.name)):
            found |= dict.fromkeys(more, usual)
    return found
