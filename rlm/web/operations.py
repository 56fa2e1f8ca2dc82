"""The operations of the JSON interface: each with its path, its parameters, and the function of rlm/admin behind it.

The routes, the checks of a request, and /openapi.json are all made from `OPERATIONS`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from itertools import islice
from typing import Annotated, Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Struct
from starlette.exceptions import HTTPException

from rlm.admin import endpoints as live
from rlm.admin import report
from rlm.admin.deal import Deal, Dealing
from rlm.admin.explain import explanation
from rlm.admin.letters import LetterFilter, grouped
from rlm.admin.queue import queue_stats
from rlm.admin.runs import cancel, cancelled, entry_of, open_run, runs_page
from rlm.admin.start_run import ask_scheduler, started
from rlm.admin.whatif import PlanAsk, answer, read_question
from rlm.core.clock import system_clock
from rlm.core.documents import (
    Compliance,
    EndpointView,
    EventView,
    IdleStatus,
    ItemView,
    LettersDealt,
    LimitChanged,
    Paused,
    PlanView,
    QueueStats,
    Record,
    Resumed,
    RunListed,
    RunStatus,
    Scaling,
    Started,
    Worker,
)
from rlm.core.endpoint import Limited
from rlm.core.errors import BadQuestionError, NoSuchEndpointError
from rlm.core.item import Reason
from rlm.core.text import DURATIONS, counted, named, seconds_of
from rlm.ledger.reading import compliance as calls_log
from rlm.ledger.store import Store
from rlm.web.access import Visit

_Asked = TypeVar("_Asked", bound=Struct)
_Handler = TypeVar("_Handler", bound=Callable[..., Any])

#: Most letters that one request handles, so that it is answered in time; `more` is the number left.
MOST_LETTERS: Final = 100_000
#: At most so many plans are made at once.
_PLANNING: Final = threading.BoundedSemaphore(2)

log = logging.getLogger(__name__)

Limit = Annotated[int, Meta(ge=1, le=1000, description="How many, the newest first.")]
Duration = Annotated[str, Meta(max_length=30, description="A duration: 90, 90s, 10m, 24h; above 0.")]
Text = Annotated[str, Meta(max_length=200)]
#: Any of several names. A request with settings or endpoints to try may cost at most a second or two.
Names = Annotated[list[Text], Meta(max_length=100)]
Tried = Annotated[list[Text], Meta(max_length=20)]


class Nothing(Struct, forbid_unknown_fields=True):
    """No parameter."""


class RunsAsked(Nothing):
    """Which runs to list."""

    limit: Limit = 20


class LettersAsked(Nothing, omit_defaults=True):
    """Which dead letters: those that match each criterion given."""

    type: Names = []
    reason: Annotated[list[Reason], Meta(max_length=100)] = []
    endpoint: Names = []
    answer: Annotated[Names, Meta(description="The answers that caused them, such as HTTP 500.")] = []
    since: Duration | None = None
    search: Text = ""

    def chosen(self) -> LetterFilter:
        """Return the filter that it describes."""
        since = None if self.since is None else system_clock.now() - seconds_in(self.since)
        return LetterFilter(self.type, self.reason, self.endpoint, since, self.search, self.answer)


class FailedAsked(LettersAsked):
    """Which dead letters to list, and how."""

    limit: Limit = 20
    grouped: Annotated[bool, Meta(description="Count the letters of each kind instead.")] = False


class PlanAsked(Nothing, rename="kebab"):
    """What `rlm plan` takes as options."""

    count: Annotated[Names, Meta(description="TYPE=N: plan for N events of a type.")] = []
    workers: Annotated[int, Meta(ge=1, le=1000, description="Exactly N workers.")] | None = None
    set: Annotated[Tried, Meta(description="KEY=VALUE: with this setting.")] = []
    add_endpoint: Annotated[Tried, Meta(description="TYPE=NAME: with one more endpoint of a type.")] = []


class ComplianceAsked(Nothing):
    """How far to look back."""

    since: Duration = "24h"


class Ordered(Nothing):
    """Why, if a reason is given."""

    reason: Annotated[str, Meta(max_length=live.LONGEST_REASON, description="Why; kept in the log.")] = ""


class PauseOrdered(Ordered):
    """For how long; without `seconds`, until it is resumed."""

    seconds: Annotated[float, Meta(gt=0, le=live.LONGEST_PAUSE_SECONDS, description="How long.")] | None = None


class LimitOrdered(Ordered, kw_only=True):
    """The new limit."""

    rate: Annotated[str, Meta(min_length=1, max_length=200, description='As in the configuration: "20/minute".')]


class LettersOrdered(Ordered):
    """Which dead letters: by `ids`, by a `filter`, or `all`; with `dry_run` only count them.

    If `most` is the number counted before, letters written since then stay.
    """

    ids: Annotated[list[Annotated[str, Meta(max_length=50)]], Meta(max_length=1000)] = []
    filter: LettersAsked | None = None
    all: bool = False
    dry_run: bool = False
    most: Annotated[int, Meta(ge=1, le=10**9)] | None = None


class Call(NamedTuple):
    """A request to an operation; `about` is the parameter in its path, if any, and `asked` are the others."""

    store: Store
    visit: Visit
    about: str
    asked: Any

    def note(self, what: str, about: str = "") -> None:
        """Log an order before it is carried out."""
        reason = live.check_reason(self.asked.reason)
        why = f" ({reason})" if reason else ""
        log.info("%s ordered %s %s%s", self.visit.by, what, about or self.about, why, extra={"action": "order"})


class Operation(NamedTuple):
    """A method of a path. The answer is the document that `handle` returns."""

    method: str
    path: str
    takes: type[Nothing]
    handle: Callable[[Call], Any]


OPERATIONS: Final = list[Operation]()


def _serves(method: str, path: str, takes: type[Nothing] = Nothing) -> Callable[[_Handler], _Handler]:
    def add(handle: _Handler) -> _Handler:
        OPERATIONS.append(Operation(method, path, takes, handle))
        return handle

    return add


@_serves("GET", "/api/status")
def status(call: Call) -> RunStatus | IdleStatus:
    """Return the open run, or that none is open."""
    return report.status(call.store, None)


@_serves("GET", "/api/runs", RunsAsked)
def runs(call: Call) -> list[RunListed]:
    """List finished runs, newest first."""
    return [entry_of(record) for record in runs_page(call.store, call.asked.limit).records]


@_serves("GET", "/api/runs/{run}")
def run(call: Call) -> RunStatus | Record:
    """Return the record of a run, or its status while it is open."""
    return report.status(call.store, report.find_run(call.store, call.about) or call.about)


@_serves("GET", "/api/queue")
def queue(call: Call) -> QueueStats:
    """Return how much waits where, by type, and how old the oldest is."""
    return queue_stats(call.store)


@_serves("GET", "/api/failed", FailedAsked)
def failed(call: Call) -> Any:
    """List dead letters, newest first."""
    letters, limit = call.asked.chosen().find(call.store), call.asked.limit
    return grouped(letters, call.store)[:limit] if call.asked.grouped else [*map(msgspec.Raw, islice(letters, limit))]


@_serves("GET", "/api/plan", PlanAsked)
def plan(call: Call) -> PlanView:
    """Forecast a run with the settings as they are, or with others; nothing is taken, sent or changed."""
    asked, allowed = call.asked, ("run.", "workers.", "retry.", "types.", "budgets.")
    if wrong := [text for text in asked.set if not text.startswith(allowed) or ".headers" in text]:
        raise BadQuestionError(f"set={wrong[0]!r} cannot be set here; settings of {', '.join(allowed)} can")
    options = PlanAsk(asked.count, asked.workers, asked.set, asked.add_endpoint)
    question = read_question(call.store.settings, options)
    if not _PLANNING.acquire(timeout=5.0):
        raise HTTPException(503, "Other plans are being made", {"Retry-After": "2"})
    try:
        return answer(call.store, question).view()
    finally:
        _PLANNING.release()


@_serves("GET", "/api/endpoints")
def endpoints(call: Call) -> list[EndpointView]:
    """List endpoints and budgets: limit, calls used and free, health."""
    return live.endpoint_list(call.store)


@_serves("GET", "/api/events/{event:path}")
def event(call: Call) -> EventView | ItemView:
    """Explain where an event is, and each attempt; likewise all events of an item."""
    return explanation(call.store, call.about)


@_serves("GET", "/api/workers")
def workers(call: Call) -> list[Worker]:
    """List the workers: where and since when they run, and how many events each works on."""
    return report.worker_list(call.store)


@_serves("GET", "/api/compliance", ComplianceAsked)
def compliance(call: Call) -> Compliance:
    """Return the most calls in any period, by endpoint and budget, against its limit."""
    return calls_log.compliance(call.store, seconds_in(call.asked.since))


@_serves("GET", "/api/scaling")
def scaling(call: Call) -> Scaling:
    """Return how many workers are wanted, and how many there are, as KEDA's scaler `metrics-api` reads it."""
    return report.scaling(call.store)


@_serves("POST", "/api/runs", Ordered)
def start_run(call: Call) -> Started:
    """Start a run now, by the scheduler."""
    call.note("start_run")
    return started(call.store, ask_scheduler(call.store, patient=True))


@_serves("POST", "/api/runs/{run}/cancel", Ordered)
def cancel_run(call: Call) -> Record | RunStatus:
    """End the open run now: its record, or its status with 202 while calls are still awaited."""
    ending = open_run(call.store, call.about)
    call.note("cancel_run", ending.id)
    cancel(call.store, ending)
    return cancelled(call.store, ending)


@_serves("POST", "/api/failed/retry", LettersOrdered)
def retry_letters(call: Call) -> LettersDealt:
    """Send the events of dead letters into the next run, the oldest 100,000 at a time; `more` are left."""
    return _deal(Deal.RETRY, call)


@_serves("POST", "/api/failed/drop", LettersOrdered)
def drop_letters(call: Call) -> LettersDealt:
    """Remove dead letters for good, the oldest 100,000 at a time; `more` are left."""
    return _deal(Deal.DROP, call)


def _deal(deal: Deal, call: Call) -> LettersDealt:
    order: LettersOrdered = call.asked
    chosen = (order.filter or LettersAsked()).chosen()
    if [bool(order.ids), bool(chosen), order.all].count(True) != 1:
        raise BadQuestionError("choose letters by exactly one of `ids`, a `filter` with a criterion, or `all`")
    dealing = Dealing(deal, tuple(order.ids), chosen)
    total, left, refused = dealing.count(call.store)
    if order.dry_run:
        return dealing.foretold(total, left, refused)
    which = named(order.ids, 10) if order.ids else msgspec.json.encode(order.filter).decode() if chosen else "all"
    call.note("retry_letters" if deal is Deal.RETRY else "drop_letters", f"{counted(total, 'dead letter')}: {which}")
    most = min(MOST_LETTERS, order.most or MOST_LETTERS)
    return dealing.done(dealing.carry_out(call.store, most), max(0, total - most))


@_serves("POST", "/api/endpoints/{name}/pause", PauseOrdered)
def pause_endpoint(call: Call) -> Paused:
    """Send no new call to an endpoint, or to any endpoint of a budget."""
    limited = _limited(call)
    call.note("pause_endpoint")
    return live.pause(call.store, limited, call.visit.by, call.asked.seconds, call.asked.reason)


@_serves("POST", "/api/endpoints/{name}/resume", Ordered)
def resume_endpoint(call: Call) -> Resumed:
    """End a pause, or a rest that is due to an endpoint's answers."""
    limited = _limited(call)
    call.note("resume_endpoint")
    return live.resume(call.store, limited, call.visit.by, call.asked.reason)


@_serves("POST", "/api/endpoints/{name}/limit", LimitOrdered)
def limit_endpoint(call: Call) -> LimitChanged:
    """Change a limit now; the window keeps its history."""
    limited, rate = _limited(call), live.check_rate(call.asked.rate)
    call.note("limit_endpoint", f"{call.about} to {rate}")
    return live.limit(call.store, limited, call.visit.by, rate, call.asked.reason)


def _limited(call: Call) -> Limited:
    """Return the named endpoint or budget; patterns are not allowed."""
    *others, limited = live.choose_limited(call.store.settings, [call.about])
    if others or limited.name != call.about:
        raise NoSuchEndpointError(f"No endpoint or budget is named {call.about!r}.")
    return limited


def seconds_in(duration: str) -> float:
    """Return a duration in seconds; raise BadQuestionError if it is none or 0."""
    if not (seconds := seconds_of(duration)) > 0:
        raise BadQuestionError(f"{duration!r} is not a duration; write for example {DURATIONS}")
    return seconds


def of_query(items: list[tuple[str, str]], kind: type[_Asked]) -> _Asked:
    """Read a query; raise BadQuestionError if a parameter is unknown, repeated, or has an invalid value."""
    lists = {each.encode_name for each in msgspec.structs.fields(kind) if each.default_factory is list}
    values: dict[str, Any] = {}
    for name, value in items:
        if name in lists:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise BadQuestionError(f"the parameter {name!r} is given twice")
        else:
            values[name] = value
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadQuestionError(f"the query cannot be used: {error}") from None


def of_body(body: bytes, kind: type[_Asked]) -> _Asked:
    """Read a body, `{}` if empty; raise BadQuestionError if it is not JSON or contains what `kind` does not allow."""
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadQuestionError(f"the body cannot be used: {error}") from None
