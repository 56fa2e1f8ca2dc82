"""Gathers what a plan is made of from the store: the backlog, the live windows, what is left of the time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rlm.endpoint import ANSWER_SLACK_SECONDS
from rlm.plan import Capacity, Horizon, Plan, Window, compute_plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rlm.endpoint import Endpoint, EventType
    from rlm.settings import Settings
    from rlm.store import Store


#: What a lane needs from the answer of a call to the beginning of its next: settle, fetch, claim, take a slot; seconds.
#: Measured on a machine of two cores with 3 to 20 workers, the embedded server writing through to its disk.
TURNAROUND_SECONDS = 0.01


def types_in_force(store: Store) -> tuple[EventType, ...]:
    """Return the configured types with the limits in force, high to low priority."""
    endpoints = store.endpoints()
    return tuple(
        replace(one, endpoints=tuple(endpoints[endpoint.name] for endpoint in one.endpoints))
        for one in store.settings.event_types
    )


def live_windows(store: Store, endpoints: Sequence[Endpoint], *, ahead_seconds: float = 0.0) -> dict[str, Window]:
    """Return what the endpoints' windows will hold `ahead_seconds` from now if no call is made, by endpoint name."""
    now_us, views = store.windows.look(endpoints)
    return {
        one.name: Window(
            tuple(age + ahead_seconds for age in store.windows.ages(one, now_us)),
            max(0.0, views[one.name].rest_seconds - ahead_seconds),
        )
        for one in endpoints
    }


def capacity_of(settings: Settings) -> Capacity:
    """Return how many workers the settings allow."""
    workers = settings.workers
    return Capacity(workers.min, workers.max, workers.threads, TURNAROUND_SECONDS)


def plan_run(
    settings: Settings,
    backlog: Mapping[str, int],
    types: Sequence[EventType],
    windows: Mapping[str, Window],
    *,
    gone_seconds: float = 0.0,
    window_seconds: float | None = None,
    workers: int | None = None,
) -> Plan:
    """Plan a run of which `gone_seconds` will have passed when it can make its first call.

    `window_seconds` is the run's own where it is not the settings'; `workers` fixes their number.
    """
    window = settings.run.window_seconds if window_seconds is None else window_seconds
    horizon = Horizon(
        deadline_seconds=max(0.0, window - gone_seconds - ANSWER_SLACK_SECONDS),
        target_seconds=max(0.0, window * settings.run.target - gone_seconds),
        guard_seconds=settings.run.guard_seconds,
    )
    return compute_plan(backlog, types, windows, capacity_of(settings), horizon, workers=workers)
