"""The operations of the JSON interface: each with its path, its parameters, and the function of rlm/admin behind it.

The routes, the checks of a request, and /openapi.json are all made from `OPERATIONS`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace
from starlette.exceptions import HTTPException

from rlm.admin import endpoints as live
from rlm.admin import report
from rlm.admin.explain import explanation
from rlm.admin.letters import Deal, deal_with, grouped
from rlm.admin.queue import queue_stats
from rlm.admin.runs import cancel, cancelled, entry_of, open_run, runs_page
from rlm.admin.start_run import ask_scheduler, started
from rlm.admin.whatif import PlanAsk, answer, read_question
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
from rlm.core.text import counted, named
from rlm.ledger import compliance as calls_log
from rlm.ledger.store import Store
from rlm.web.access import Visit
from rlm.web.parameters import (
    ComplianceAsked,
    FailedAsked,
    LettersAsked,
    LettersOrdered,
    LimitOrdered,
    Nothing,
    Ordered,
    PauseOrdered,
    PlanAsked,
    RunsAsked,
    seconds_in,
)

_Handler = TypeVar("_Handler", bound=Callable[..., Any])

#: Most letters that one request handles, so that it is answered in time; `more` is the number left.
MOST_LETTERS: Final = 100_000
#: At most so many plans are made at once.
_PLANNING: Final = threading.BoundedSemaphore(2)

log = logging.getLogger(__name__)


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
    return grouped(letters)[:limit] if call.asked.grouped else [*map(msgspec.Raw, islice(letters, limit))]


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
    total = len(order.ids) or sum(1 for _ in chosen.find(call.store))
    which = named(order.ids, 10) if order.ids else msgspec.json.encode(order.filter).decode() if chosen else "all"
    call.note("retry_letters" if deal is Deal.RETRY else "drop_letters", f"{counted(total, 'dead letter')}: {which}")
    most = min(total, MOST_LETTERS, order.most or MOST_LETTERS)
    return replace(deal_with(call.store, deal, order.ids or chosen, most), more=total - most)


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
