"""Gathers what a plan is made of from the store: the backlog, the live windows, what is left of the time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rlm.core.endpoint import ANSWER_SLACK_SECONDS, all_limited
from rlm.core.retry import FIRST_BACKOFF_SECONDS
from rlm.ledger.processes import Role, WorkerState
from rlm.plan import Capacity, Horizon, Plan, Window, compute_plan
from rlm.plan.turnaround import TURNAROUND_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rlm.core.endpoint import Endpoint, EventType
    from rlm.core.expected import Expected, Pair
    from rlm.ledger import Store
    from rlm.plan.values import Progress
    from rlm.settings import Settings


#: From a plan to the first call of its run where a worker is ready, seconds: a message travels.
START_SECONDS = 0.3
#: The same where none is, and it was never measured here: a supervisor's template loads, and workers come up.
COMING_UP_SECONDS = 1.5


def start_seconds(store: Store) -> float:
    """Return how long after its plan a run makes its first call: no sooner than its workers come up, as measured here.

    Raises:
        StoreError: Redis did not answer.
    """
    if any(one.state == WorkerState.READY for one in store.processes.alive(Role.WORKER)):
        return START_SECONDS
    return max(START_SECONDS, store.processes.coming_up_seconds() or COMING_UP_SECONDS)


def types_in_force(store: Store) -> tuple[EventType, ...]:
    """Return the configured types with the limits in force, high to low priority."""
    endpoints = store.endpoints()
    return tuple(
        replace(one, endpoints=tuple(endpoints[endpoint.name] for endpoint in one.endpoints))
        for one in store.settings.event_types
    )


def live_windows(store: Store, endpoints: Sequence[Endpoint], *, ahead_seconds: float = 0.0) -> dict[str, Window]:
    """Return what the windows will hold `ahead_seconds` from now if no call is made, by name.

    They are those of the endpoints and of the budgets that these name.
    """
    limited = all_limited(endpoints)
    now_us, views = store.windows.look(limited)
    ages = store.windows.ages(limited, now_us)
    return {
        name: Window(ages[name], view.rest_seconds, view.suspect, view.held_seconds, view.paused_seconds).later(
            ahead_seconds
        )
        for name, view in views.items()
    }


def capacity_of(settings: Settings, at_least: int = 0, turnaround_seconds: float = TURNAROUND_SECONDS) -> Capacity:
    """Return how many workers the settings allow, of which `at_least` so many are there."""
    workers = settings.workers
    return Capacity(max(workers.min, min(at_least, workers.max)), workers.max, workers.threads, turnaround_seconds)


def horizon_of(settings: Settings, gone_seconds: float = 0.0, window_seconds: float | None = None) -> Horizon:
    """Return the time that a run has from its first call on; the arguments are those of `plan_run`."""
    window = settings.run.window_seconds if window_seconds is None else window_seconds
    return Horizon(
        deadline_seconds=max(0.0, window - gone_seconds - ANSWER_SLACK_SECONDS),
        target_seconds=max(0.0, window * settings.run.target - gone_seconds),
        guard_seconds=settings.run.guard_seconds,
        max_attempts=settings.retry.max_attempts,
        backoff_seconds=FIRST_BACKOFF_SECONDS,
        gone_seconds=gone_seconds,
    )


def plan_run(
    settings: Settings,
    backlog: Mapping[str, int],
    types: Sequence[EventType],
    windows: Mapping[str, Window],
    *,
    gone_seconds: float = 0.0,
    window_seconds: float | None = None,
    workers: int | None = None,
    at_least: int = 0,
    expected: Mapping[Pair, Expected] | None = None,
    progress: Progress | None = None,
    turnaround_seconds: float = TURNAROUND_SECONDS,
) -> Plan:
    """Plan a run of which `gone_seconds` will have passed when it can make its first call.

    `window_seconds` is the run's own where it is not the settings'; `workers` fixes their number, which is
    `at_least` so many. `expected` is what was measured of calls, `turnaround_seconds` of lanes; `progress` is how far a
    run is whose rest is planned.
    """
    return compute_plan(
        backlog,
        types,
        windows,
        capacity_of(settings, at_least, turnaround_seconds),
        horizon_of(settings, gone_seconds, window_seconds),
        workers=workers,
        expected=expected,
        progress=progress,
    )
