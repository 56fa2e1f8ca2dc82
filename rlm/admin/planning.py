"""The input of a plan, read from the store: arrivals, live windows, workers, the remaining time."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from rlm.core.call import APART_SECONDS, REFILL_SECONDS, TURNAROUND_SECONDS
from rlm.core.clock import timestamp
from rlm.core.endpoint import ANSWER_SLACK_SECONDS, Endpoint, EventType, WindowState, all_limited
from rlm.ledger.processes import Role, WorkerState
from rlm.ledger.store import Store
from rlm.ledger.windows import Windows
from rlm.plan import Plan, compute_plan
from rlm.plan.situation import Capacity, Horizon, Workload
from rlm.processes import sharing
from rlm.settings import Settings

#: Seconds from a plan to the first call of its run if a worker is ready: its lane is woken, and asks.
START_SECONDS = 0.05
#: The same if no worker is ready: each start takes 0.1 to 0.3 s.
COMING_UP_SECONDS = 0.5

#: The number of newest runs by which arrivals are measured.
MEASURED_RUNS = 20


def start_seconds(store: Store) -> float:
    """Return the seconds from a run's plan to its first call."""
    if any(worker.state == WorkerState.READY for worker in store.processes.alive(Role.WORKER)):
        return START_SECONDS
    return COMING_UP_SECONDS


def types_in_force(store: Store) -> tuple[EventType, ...]:
    """Return the configured types with the limits in force, from high to low priority."""
    endpoints = store.endpoints()
    return tuple(
        replace(kind, endpoints=tuple(endpoints[endpoint.name] for endpoint in kind.endpoints))
        for kind in store.settings.event_types
    )


def live_windows(
    store: Store, endpoints: Iterable[Endpoint], *, ahead_seconds: float = 0.0, guard_seconds: float | None = None
) -> dict[str, WindowState]:
    """Return by name the windows of `endpoints` and their budgets, `ahead_seconds` from now if no call is made.

    `guard_seconds` replaces the guard of the settings.
    """
    limited = all_limited(endpoints)
    _, windows = Windows(store, guard_seconds).look(limited)
    return {name: window.later(ahead_seconds) for name, window in windows.items()}


def room_of(store: Store) -> int | None:
    """Return how many workers the living hosts take; None if it is unknown, or there is neither supervisor nor worker.

    Without a supervisor it is the number of workers started by hand, because nobody starts more.
    """
    if supervisors := store.processes.alive(Role.SUPERVISOR):
        return sharing.room(sharing.serving(supervisors, store.leases.read().revision))
    by_hand = [each for each in store.processes.alive(Role.WORKER) if not each.supervisor]
    able = [each for each in by_hand if each.revision == store.settings.revision and each.state != WorkerState.STOPPING]
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
    settings: Settings,
    workload: Workload,
    capacity: Capacity | None = None,
    *,
    gone_seconds: float = 0.0,
    window_seconds: float | None = None,
) -> Plan:
    """Plan a run whose first call can be made `gone_seconds` after its start.

    `capacity` and `window_seconds` replace those of the settings.
    """
    window = settings.run.window_seconds if window_seconds is None else window_seconds
    horizon = Horizon(
        deadline_seconds=max(0.0, window - gone_seconds - ANSWER_SLACK_SECONDS),
        target_seconds=max(0.0, window * settings.run.target - gone_seconds),
        guard_seconds=settings.run.guard_seconds + REFILL_SECONDS,
        gone_seconds=gone_seconds,
        apart_seconds=APART_SECONDS,
    )
    return compute_plan(workload, capacity or capacity_of(settings), horizon)


def measured_arrivals(store: Store) -> dict[str, float] | None:
    """Return the events taken a second over the last `MEASURED_RUNS` runs, by type; None without a whole window.

    The time counts from the first start to the last, or to the last tick, because a tick with nothing to do leaves no
    record. The events of the first run do not count: they arrived earlier, over an unknown time.
    """
    records = [(timestamp(record.started_at), record) for record in store.runs.recent(MEASURED_RUNS + 1)]
    first = min((start for start, _ in records), default=0.0)
    seconds = max([store.schedule.last_tick() or 0.0, *(start for start, _ in records)]) - first
    if not records or round(seconds / store.settings.run.every_seconds) < 1:
        return None
    later = [record.by_type for start, record in records if start > first]
    names = [kind.name for kind in store.settings.event_types]
    return {name: sum(by_type[name].taken for by_type in later if name in by_type) / seconds for name in names}
