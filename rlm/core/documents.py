"""The documents that RLM keeps and shows: the record of a run, the status of an open one, and conditions.

Their fields are the keys of the JSON that commands and the HTTP interface give. Moments are ISO 8601 in UTC, spans are
in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

#: A completed call whose answer was a web page; it is counted among the troubles, because it may be a login page.
WEB_PAGE = "web page"


class TypeCounts(msgspec.Struct, frozen=True, kw_only=True):
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


class CallCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of a run to an endpoint, or with a budget; the most in a period of its limit's first rule.

    Peak and durations are null until the run is closed.
    """

    calls: int = 0
    completed: int = 0
    throttled: int = 0
    errors: int = 0
    peak_in_window: int | None = None
    limit: str = ""
    p50_ms: float | None = None
    p95_ms: float | None = None


class RunPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ends, as planned at its start or as foreseen now, in seconds from its first call.

    `course` are times with the calls answered by then. No schedule ends before `lower_bound_seconds`. `binds` says what
    keeps the end from being earlier, `shortage` which workers are missing. `actual_seconds` is the last good answer.
    """

    workers: int = 0
    threads: int = 0
    forecast_seconds: float = 0.0
    lower_bound_seconds: float = 0.0
    expected_leftover: int = 0
    binds: str = ""
    course: tuple[tuple[float, float], ...] = ()
    shortage: str | None = None
    actual_seconds: float | None = None

    @property
    def fitting(self) -> int:
        """The number of events that fit, with which its course ends."""
        return round(self.course[-1][1]) if self.course else 0


class Reasons(msgspec.Struct, frozen=True, kw_only=True):
    """Why events of a run were left over, in events."""

    slots: int = 0
    lanes: int = 0
    resting: int = 0
    paused: int = 0
    held: int = 0
    retries: int = 0
    workers: int = 0
    redis: int = 0


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """What a run used from its first call to its last answer: fractions of the time of lanes, and of slots."""

    calls_per_minute: float = 0.0
    lanes: float = 0.0
    slots: float = 0.0
    answered_p50_seconds: float = 0.0
    answered_p95_seconds: float = 0.0


class RunWorkers(msgspec.Struct, frozen=True, kw_only=True):
    """The most workers of a run at once, and how many ended unexpectedly."""

    peak: int = 0
    restarted: int = 0


class CallTrouble(msgspec.Struct, frozen=True, kw_only=True):
    """Calls without a good answer, or an endpoint that no host reaches; `address` is null if no longer configured."""

    endpoint: str
    address: str | None
    what: str
    calls: int


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Why events were left over: a reason, or how the run ended."""

    cause: str
    types: tuple[str, ...]
    leftover: int
    sentence: str


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """The run that `rlm start` started."""

    run_id: str
    state: str


class RunListed(Started, frozen=True, kw_only=True):
    """A finished run in a list."""

    started_at: str
    duration_seconds: float
    counts: RunCounts


class RunDocument(RunListed, frozen=True, kw_only=True):
    """What the record of a run and the status of an open one have in common."""

    trigger: str
    deadline: str
    window_seconds: float
    by_type: Mapping[str, TypeCounts]
    by_endpoint: Mapping[str, CallCounts]
    by_budget: Mapping[str, CallCounts] = {}
    failure: str = ""
    troubles: tuple[CallTrouble, ...] = ()

    @property
    def every_call_failed(self) -> bool:
        """Whether calls were made and none of them succeeded."""
        entries = self.by_endpoint.values()
        return any(entry.calls for entry in entries) and not any(entry.completed for entry in entries)

    @property
    def failures(self) -> str:
        """The three most frequent failures in words: `3 x connection refused, a at 10.0.0.7:80`."""
        failed = [each for each in self.troubles if each.what != WEB_PAGE]
        words = [f"{each.calls:,} x {each.what}, {each.endpoint} at {each.address or 'no address'}" for each in failed]
        more = [f"and {len(words) - 3} more, see `rlm result --json`"] if words[3:] else []
        return "; ".join([*words[:3], *more])


class Record(RunDocument, frozen=True, kw_only=True):
    """The record of a finished run."""

    finished_at: str
    plan: RunPlan
    leftover_by_reason: Reasons = Reasons()
    used: Used = Used()
    workers: RunWorkers
    why: tuple[Cause, ...] = ()


class Condition(msgspec.Struct, frozen=True, kw_only=True):
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


class CallNow(msgspec.Struct, frozen=True, kw_only=True):
    """What a lane of a worker does: the event, and the endpoint it calls since so long; null before it has a slot."""

    event_id: str
    endpoint: str | None
    seconds: float | None


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A living worker. `sleeping` says why it makes no calls now; `calls` are those of its lanes in an open run."""

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
    """The workers of an open run."""

    now: int
    ready: int
    wanted: int
    other_configuration: int
    each: tuple[Worker, ...]


class RunStatus(RunDocument, frozen=True, kw_only=True):
    """An open run as of a moment. `to_take` items are still on the audit list. `endpoints` has the budgets too."""

    by_type: Mapping[str, LiveTypeCounts]
    endpoints: Mapping[str, EndpointView]
    plan: RunPlan | None
    forecast: RunPlan | None
    workers: LiveWorkers
    to_take: int
    conductor: str | None
    hosts: tuple[Host, ...]
    conditions: tuple[Condition, ...]
    as_of: str
    seconds_left: float
    called_seconds: float | None


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """What a view looks at: the configuration file or null, Redis, the prefix."""

    config: str | None
    redis: str
    prefix: str


class Rest(msgspec.Struct, frozen=True, kw_only=True):
    """The time between two runs: the last run and tick, the next tick (if a scheduler lives), queues, processes."""

    state: str = "idle"
    last: str | None
    last_tick: str | None
    next_tick: str
    conditions: tuple[Condition, ...]
    installation: Installation
    last_record: Record | None
    waiting: QueueStats
    endpoints: Mapping[str, EndpointView]
    schedulers: int
    workers: int
    hosts: tuple[Host, ...]


#: What the views of the present show, and those of a run too.
Now: TypeAlias = RunStatus | Rest
View: TypeAlias = RunStatus | Rest | Record

# -- plans


class TypePlan(msgspec.Struct, frozen=True):
    """One type's part in a plan. `forecast_seconds` is when its last event that fits is answered, 0 if none does."""

    events: int
    expected_leftover: int
    forecast_seconds: float


class PlannedRelease(msgspec.Struct, frozen=True):
    """How many events go to an endpoint in one part of the time; the first goes at `at_seconds`."""

    at_seconds: float
    endpoint: str
    events: int


class Plan(RunPlan, frozen=True, kw_only=True):
    """A plan. `first_call_seconds` counts from now to the first free slot, all other times from that call.

    `most`: the longest queue goes first. `gone_in_windows`: when the backlog is gone at the arrivals of the last runs.
    `what_if` has the options of another plan, `today` the plan as things are.
    """

    first_call_seconds: float = 0.0
    fits: bool = True
    by_type: Mapping[str, TypePlan] = {}
    releases: tuple[PlannedRelease, ...] = ()
    most: bool = False
    gone_in_windows: int | None = None
    what_if: str | UnsetType = UNSET
    today: Plan | UnsetType = UNSET


# -- queues


class TypeQueue(msgspec.Struct, frozen=True, kw_only=True):
    """The events of a type that wait, in the ledger and on the audit list, and the age of the oldest."""

    pending: int
    oldest_seconds: float | None


class QueueStats(msgspec.Struct, frozen=True, kw_only=True):
    """The lengths of the queues: audit list and staging in items, the others in events and dead letters."""

    events: int
    staged: int
    processing: int
    failed: int
    leftover: int
    by_type: Mapping[str, TypeQueue]


class RunNow(Started, frozen=True, kw_only=True):
    """The open run, in a view of the queues."""

    seconds_left: float


class QueueLook(QueueStats, frozen=True, kw_only=True):
    """What `rlm queue monitor` shows; a rate is null while unknown, `max_bytes` 0 without a bound."""

    as_of: str
    ping_ms: float
    used_bytes: int
    max_bytes: int
    run: RunNow | None
    arriving_per_minute: float | None
    settled_per_minute: float | None


class WaitingEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An unsettled event; `item` is its item with this event alone, so that it can be pushed again."""

    event_id: str
    type: str
    item_id: str
    wallet_name: str
    state: str
    priority: int | None
    since: str | None
    waiting_seconds: float | None
    due_in_seconds: float | None
    item: msgspec.Raw


class WaitingList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of unsettled events, and the place behind which the list goes on; null at its end."""

    events: tuple[WaitingEvent, ...]
    next: int | None


class Pushed(msgspec.Struct, kw_only=True):
    """What `rlm queue push` did: items `pushed`, of them `bad`, and now `waiting`, and lines `refused` as too long."""

    pushed: int = 0
    bad: int = 0
    waiting: int = 0
    refused: int = 0


# -- events and dead letters


class Attempt(msgspec.Struct, frozen=True):
    """A call that was made for an event."""

    at: str
    run_id: str
    attempt: int
    endpoint: str | None
    answer: str
    text: str
    seconds: float | None
    host: str | None


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """Where an event is, why it waits and for which endpoints, and the newest of its `calls`.

    `conditions` are those that may keep it waiting. `letter` is the id of its dead letter.
    """

    event_id: str
    type: str | None
    state: str
    sentence: str
    taken_at: str | None = None
    runs_spent: int = 0
    calls: int = 0
    attempts: tuple[Attempt, ...] = ()
    endpoints: tuple[EndpointView, ...] = ()
    conditions: tuple[Condition, ...] = ()
    letter: str | None = None


class ItemView(msgspec.Struct, frozen=True, kw_only=True):
    """The events of an item."""

    item_id: str
    events: tuple[EventView, ...]


class LetterGroup(msgspec.Struct, frozen=True):
    """Dead letters of one kind, and when the newest of them was written."""

    letters: int
    reason: str
    endpoint: str | None
    type: str | None
    newest: str


class LetterOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """Why nothing was done to a dead letter; empty if it was done."""

    id: str
    reason: str


class LettersDealt(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to dead letters; `more` match and were not handled."""

    retried: tuple[str, ...] | UnsetType = UNSET
    dropped: tuple[str, ...] | UnsetType = UNSET
    refused: tuple[LetterOutcome, ...] = ()
    more: int | UnsetType = UNSET


# -- endpoints


class EndpointView(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint or a budget: its limit and who set it, its window, its health.

    `used` calls count of those `allowed` by the rule with the fewest left; the next slot is null if it is paused until
    resumed. `circuit_seconds` and `circuit_reason` are for how long, and why, it takes no call.
    """

    name: str
    kind: Literal["endpoint", "budget"]
    types: tuple[str, ...]
    budget: str | None
    limit: str
    limit_by: str | None
    limit_at: str | None
    used: int
    allowed: int
    free: int
    next_slot_seconds: float | None
    health: str
    since: str | None
    circuit_seconds: float | None
    circuit_reason: str | None
    paused_by: str | None
    failures: int


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """How another program shares the window of an endpoint: its lines of Python."""

    name: str
    url: str
    limit: str
    lines: tuple[str, ...]


class ComplianceRule(msgspec.Struct, frozen=True, kw_only=True):
    """The most calls in any period of a rule, against its amount; `at` is the last of those calls."""

    amount: int
    period_seconds: float
    most: int
    at: str | None
    exceeded: bool


class LimitedCompliance(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of an endpoint or a budget, judged by the limit in force since then."""

    since: str
    calls: int
    rules: tuple[ComplianceRule, ...]

    @property
    def exceeded(self) -> bool:
        """Whether a limit was exceeded."""
        return any(rule.exceeded for rule in self.rules)


class Compliance(msgspec.Struct, frozen=True, kw_only=True):
    """Whether any limit was exceeded, of endpoints and budgets; all calls are known from `known_from` on."""

    ok: bool
    since: str = msgspec.field(name="from")
    known_from: str
    until: str
    by_endpoint: Mapping[str, LimitedCompliance]


# -- processes


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A host: how many workers it takes, its share of the wanted ones, and those it has.

    `unsupervised`: only a scheduler, or workers started by hand, run there; `silent`: its supervisor is not heard from,
    and did not sign off.
    """

    host: str
    state: Literal["ready", "unsupervised", "silent"]
    capacity: int | None
    share: int
    workers: int
    scheduler: str | None


class Scaling(msgspec.Struct, frozen=True, kw_only=True):
    """How many workers are wanted and exist, for a program that starts hosts accordingly."""

    wanted: int
    alive: int
    ready: int
