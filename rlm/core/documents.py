"""The documents that RLM keeps and shows: the record of a run, the status of an open one, and conditions.

Their fields are the keys of the JSON that commands and the HTTP interface give. Moments are ISO 8601 in UTC, spans are
in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import msgspec
from msgspec import UNSET, UnsetType


class JsonDocument(msgspec.Struct, frozen=True):
    """A document with its fields by name."""


class TypeCounts(JsonDocument, frozen=True, kw_only=True):
    """The events of one type in a run: taken + carried_over = completed + failed + leftover."""

    taken: int = 0
    carried_over: int = 0
    completed: int = 0
    failed: int = 0
    leftover: int = 0


class RunCounts(TypeCounts, frozen=True, kw_only=True):
    """The events of a run, and the dead letters and duplicates of its intake, which belong to no type."""

    invalid: int = 0
    duplicates: int = 0


class CallCounts(JsonDocument, frozen=True, kw_only=True):
    """The calls of a run to an endpoint, or with a budget; the most in a period of its limit's first rule.

    `limit_before` is the limit that the run began with, if it was another. A budget has no durations.
    """

    calls: int = 0
    completed: int = 0
    throttled: int = 0
    errors: int = 0
    peak_in_window: int = 0
    limit: str = ""
    limit_before: str = ""
    p50_ms: float = 0.0
    p95_ms: float = 0.0


class RunPlan(JsonDocument, frozen=True, kw_only=True):
    """The plan that a run began with; times count from the first call, `course` are pairs of a time and calls by then.

    `actual_seconds` is the time from the first call to the last answer that completed an event, once it is known.
    """

    workers: int = 0
    threads: int = 0
    forecast_seconds: float = 0.0
    lower_bound_seconds: float = 0.0
    expected_leftover: int = 0
    binds: str = ""
    course: tuple[tuple[float, float], ...] = ()
    actual_seconds: float | None = None


class RunForecast(JsonDocument, frozen=True, kw_only=True):
    """How an open run will end, as of a moment: the same simulation from the present state.

    `binds` says what keeps the end from being earlier; `blamed` are the endpoints and budgets that leave events over by
    being shut; `shortage` says which workers are missing, `short_since` since when; `untaken` items stay on the audit
    list.
    """

    as_of: str
    forecast_seconds: float
    expected_leftover: int
    workers: int
    binds: str = ""
    blamed: tuple[str, ...] = ()
    shortage: str | None = None
    short_since: str | None = None
    leftover_by_type: Mapping[str, int] = {}
    untaken: int = 0
    course: tuple[tuple[float, float], ...] = ()


class Reasons(JsonDocument, frozen=True, kw_only=True):
    """Why events of a run were left over, in events."""

    slots: int = 0
    lanes: int = 0
    resting: int = 0
    paused: int = 0
    held: int = 0
    retries: int = 0
    workers: int = 0
    redis: int = 0


class Used(JsonDocument, frozen=True, kw_only=True):
    """What a run used from its first call to its last answer: fractions of the time of lanes, and of slots."""

    calls_per_minute: float = 0.0
    lanes: float = 0.0
    slots: float = 0.0
    answered_p50_seconds: float = 0.0
    answered_p95_seconds: float = 0.0


class RunWorkers(JsonDocument, frozen=True, kw_only=True):
    """The most workers of a run at once, and how many ended unexpectedly."""

    peak: int = 0
    restarted: int = 0


class CallTrouble(JsonDocument, frozen=True, kw_only=True):
    """Calls without a good answer, or an endpoint that no host reaches; `what` is in a few words.

    `address` is null for an endpoint that is no longer configured.
    """

    endpoint: str
    address: str | None
    what: str
    calls: int


class Cause(JsonDocument, frozen=True, kw_only=True):
    """Why events were left over: a reason, or how the run ended."""

    cause: str
    types: tuple[str, ...]
    leftover: int
    sentence: str


class RunDocument(JsonDocument, frozen=True, kw_only=True):
    """What the record of a run and the status of an open one have in common.

    `failure` says why it failed, `untaken` how many items it left on the audit list for lack of time.
    """

    run_id: str
    state: str
    trigger: str
    started_at: str
    deadline: str
    duration_seconds: float
    window_seconds: float
    counts: RunCounts
    by_type: Mapping[str, TypeCounts]
    by_endpoint: Mapping[str, CallCounts]
    by_budget: Mapping[str, CallCounts] = {}
    failure: str = ""
    untaken: int = 0
    redis_away_seconds: float = 0.0
    troubles: tuple[CallTrouble, ...] = ()


class Record(RunDocument, frozen=True, kw_only=True):
    """The record of a finished run."""

    finished_at: str
    plan: RunPlan
    leftover_by_reason: Reasons = Reasons()
    used: Used = Used()
    workers: RunWorkers
    why: tuple[Cause, ...] = ()


class Condition(JsonDocument, frozen=True, kw_only=True):
    """Something that is not well, for as long as it lasts. An error pages."""

    code: str
    subject: str
    severity: Literal["info", "warning", "error"]
    since: str | None
    sentence: str
    remedy: str


class LiveTypeCounts(TypeCounts, frozen=True, kw_only=True):
    """The events of one type in an open run, and where those are that are neither waiting nor settled."""

    inflight: int = 0
    backing_off: int = 0
    spent: int = 0


class LiveCallCounts(CallCounts, frozen=True, kw_only=True):
    """The calls of an open run to an endpoint, or with a budget, and its window and health now.

    `used` calls count of those `allowed` by the rule with the fewest left. A read-only user of Redis sees no window.
    """

    types: tuple[str, ...] = ()
    used: int | UnsetType = UNSET
    allowed: int | UnsetType = UNSET
    free: int | UnsetType = UNSET
    next_slot_seconds: float | UnsetType | None = UNSET
    health: str = "ok"
    since: str | None = None
    circuit_seconds: float | None = None
    circuit_reason: str | None = None


class CallNow(JsonDocument, frozen=True, kw_only=True):
    """What a lane of a worker does: the event, and the endpoint it calls since so long; null before it has a slot."""

    event_id: str
    endpoint: str | None
    seconds: float | None


class WorkerNow(JsonDocument, frozen=True, kw_only=True):
    """A living worker; `calls` are those of its lanes in an open run. `sleeping` says why it makes none now."""

    pid: int
    host: str
    state: str
    threads: int
    busy: int
    started_at: str
    other_configuration: bool
    sleeping: str | None = None
    calls: tuple[CallNow, ...] = ()


class LiveWorkers(RunWorkers, frozen=True, kw_only=True):
    """The workers of an open run; `lacking` says why no call would be made."""

    now: int
    ready: int
    wanted: int
    other_configuration: int
    lacking: str | None
    each: tuple[WorkerNow, ...]


class RunStatus(RunDocument, frozen=True, kw_only=True):
    """An open run, as far as it is known, and its present state as of a moment.

    `to_take` items are still on the audit list; `unfit` says why Redis may not be used.
    """

    plan: RunPlan | None
    forecast: RunForecast | None
    workers: LiveWorkers
    to_take: int
    conductor: str | None
    unfit: str | None
    hosts: tuple[Mapping[str, Any], ...]
    conditions: tuple[Condition, ...]
    as_of: str
    seconds_left: float
    called_seconds: float | None


class IdleStatus(JsonDocument, frozen=True, kw_only=True):
    """The time between two runs: the last run and the last tick."""

    state: str = "idle"
    last: str | None
    last_tick: str | None
    unfit: str | None
    conditions: tuple[Condition, ...]


def plain(document: Record | RunStatus | IdleStatus) -> dict[str, Any]:
    """Return a document as its JSON object, for the views."""
    return cast("dict[str, Any]", msgspec.to_builtins(document))
