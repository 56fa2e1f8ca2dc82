"""The operations of the JSON interface: each with its path, its parameters, and the function of rlm/admin behind it.

The routes and /openapi.json are both made from `OPERATIONS`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec
from starlette.exceptions import HTTPException

from rlm.admin import endpoints as live
from rlm.admin import report
from rlm.admin.deal import Deal, Dealing
from rlm.admin.endpoints import choose_limited, endpoint_list
from rlm.admin.explain import explanation
from rlm.admin.letters import grouped
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
    JsonDocument,
    LetterGroup,
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
from rlm.ledger.reading.compliance import compliance as judged
from rlm.ledger.store import Store
from rlm.web import parameters
from rlm.web.session import Visit

#: Most letters that one request handles, so that it is answered in time; `more` is the number left.
MOST_LETTERS: Final = 100_000
#: The settings that a plan may be asked with.
_PLANNED: Final = ("run.", "workers.", "retry.", "types.", "budgets.")
#: Most plans to make at once, and seconds that another waits for its turn.
_PLANNING: Final = threading.BoundedSemaphore(2)
_TURN_SECONDS: Final = 5.0
#: Most letter ids to name in the record of an order.
_MOST_NAMED: Final = 10

log = logging.getLogger(__name__)


class ApiCall(NamedTuple):
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


class Pending(NamedTuple):
    """The document of an order that is being carried out."""

    document: JsonDocument


def status(call: ApiCall) -> RunStatus | IdleStatus:
    """Return the open run, or that none is open."""
    return report.status(call.store, None)


def runs(call: ApiCall) -> list[RunListed]:
    """List finished runs, newest first."""
    first, said = call.asked.offset, call.asked
    found = runs_page(call.store, said.chosen(), first + said.limit, said.before).records
    return [entry_of(one) for one in found[first:]]


def run(call: ApiCall) -> RunStatus | Record:
    """Return the record of a run, or its status while it is open."""
    return report.status(call.store, report.find_run(call.store, call.about) or call.about)


def queue(call: ApiCall) -> QueueStats:
    """Return how much waits where, by type, and how old the oldest is."""
    return queue_stats(call.store)


def failed(call: ApiCall) -> list[LetterGroup] | list[msgspec.Raw]:
    """List dead letters, newest first."""
    letters, first = call.asked.chosen().find(call.store), call.asked.offset
    if call.asked.grouped:
        return grouped(letters, call.store)[first : first + call.asked.limit]
    return [msgspec.Raw(raw) for raw in islice(letters, first, first + call.asked.limit)]


def plan(call: ApiCall) -> PlanView:
    """Forecast a run with the settings as they are, or with others; nothing is taken, sent or changed."""
    said = call.asked
    if wrong := [one for one in said.set if not one.startswith(_PLANNED) or ".headers" in one]:
        raise BadQuestionError(f"set={wrong[0]!r} cannot be set here; settings of {', '.join(_PLANNED)} can")
    options = PlanAsk(said.count, said.workers, said.set, said.add_endpoint)
    question = read_question(call.store.settings, options)
    if not _PLANNING.acquire(timeout=_TURN_SECONDS):
        raise HTTPException(503, "Other plans are being made", {"Retry-After": "2"})
    try:
        return answer(call.store, question).view()
    finally:
        _PLANNING.release()


def endpoints(call: ApiCall) -> list[EndpointView]:
    """List endpoints and budgets: limit, calls used and free, health."""
    return endpoint_list(call.store)


def event(call: ApiCall) -> EventView | ItemView:
    """Explain where an event is, and each attempt; likewise all events of an item; or list those of a wallet."""
    return explanation(call.store, call.about)


def workers(call: ApiCall) -> list[Worker]:
    """List the workers: where and since when they run, and how many events each works on."""
    return report.worker_list(call.store)


def compliance(call: ApiCall) -> Compliance:
    """Return the most calls in any period, by endpoint and budget, against its limit."""
    return judged(call.store, parameters.seconds_in(call.asked.since))


def scaling(call: ApiCall) -> Scaling:
    """Return how many workers are wanted, and how many there are, as KEDA's scaler `metrics-api` reads it."""
    return report.scaling(call.store)


def start_run(call: ApiCall) -> Started:
    """Start a run now, by the scheduler."""
    call.note("start_run")
    return started(call.store, ask_scheduler(call.store, patient=True))


def cancel_run(call: ApiCall) -> Record | Pending:
    """End the open run now: its record, or its status with 202 while calls are still awaited."""
    ending = open_run(call.store, call.about)
    call.note("cancel_run", ending.id)
    cancel(call.store, ending)
    found = cancelled(call.store, ending)
    return found if isinstance(found, Record) else Pending(found)


def retry_letters(call: ApiCall) -> LettersDealt:
    """Send the events of dead letters into the next run, the oldest 100,000 at a time; `more` are left."""
    return _deal(Deal.RETRY, call)


def drop_letters(call: ApiCall) -> LettersDealt:
    """Remove dead letters for good, the oldest 100,000 at a time; `more` are left."""
    return _deal(Deal.DROP, call)


def _deal(deal: Deal, call: ApiCall) -> LettersDealt:
    said = call.asked
    chosen = said.filter.chosen() if said.filter else parameters.LettersAsked().chosen()
    if [bool(said.ids), bool(chosen), said.all].count(True) != 1:
        raise BadQuestionError("choose letters by exactly one of `ids`, a `filter` with a criterion, or `all`")
    dealing = Dealing(deal, tuple(said.ids), chosen)
    total, left, refused = dealing.count(call.store)
    if said.dry_run:
        return dealing.foretold(total, left, refused)
    which = named(said.ids, _MOST_NAMED) if said.ids else msgspec.json.encode(said.filter).decode() if chosen else "all"
    call.note("retry_letters" if deal is Deal.RETRY else "drop_letters", f"{counted(total, 'dead letter')}: {which}")
    most = min(MOST_LETTERS, said.most or MOST_LETTERS)
    outcomes = dealing.carry_out(call.store, most)
    return dealing.done(outcomes, max(0, total - most))


def pause_endpoint(call: ApiCall) -> Paused:
    """Send no new call to an endpoint, or to any endpoint of a budget."""
    one = _limited(call)
    call.note("pause_endpoint")
    return live.pause(call.store, one, call.visit.by, call.asked.seconds, call.asked.reason)


def resume_endpoint(call: ApiCall) -> Resumed:
    """End a pause, or a rest that is due to an endpoint's answers."""
    one = _limited(call)
    call.note("resume_endpoint")
    return live.resume(call.store, one, call.visit.by, call.asked.reason)


def limit_endpoint(call: ApiCall) -> LimitChanged:
    """Change a limit now; the window keeps its history."""
    one, rate = _limited(call), live.check_rate(call.asked.rate)
    call.note("limit_endpoint", f"{call.about} to {rate}")
    return live.limit(call.store, one, call.visit.by, rate, call.asked.reason)


def _limited(call: ApiCall) -> Limited:
    """Return the named endpoint or budget; patterns are not allowed."""
    *others, one = choose_limited(call.store.settings, [call.about])
    if others or one.name != call.about:
        raise NoSuchEndpointError(f"No endpoint or budget is named {call.about!r}.")
    return one


class Operation(NamedTuple):
    """A method of a path. The answer is the JSON that `command` prints, one of the documents it `gives`."""

    method: str
    path: str
    handle: Callable[[ApiCall], Any]
    command: str
    takes: type[msgspec.Struct] = parameters.Nothing
    gives: tuple[Any, ...] = ()


OPERATIONS: Final = (
    Operation("GET", "/api/status", status, "rlm status", gives=(RunStatus, IdleStatus)),
    Operation("GET", "/api/runs", runs, "rlm list", parameters.RunsAsked, gives=(list[RunListed],)),
    Operation("GET", "/api/runs/{run}", run, "rlm status", gives=(RunStatus, Record)),
    Operation("GET", "/api/queue", queue, "rlm queue stats", gives=(QueueStats,)),
    Operation("GET", "/api/failed", failed, "rlm failed list", parameters.FailedAsked),
    Operation("GET", "/api/plan", plan, "rlm plan", parameters.PlanAsked, gives=(PlanView,)),
    Operation("GET", "/api/endpoints", endpoints, "rlm endpoint list", gives=(list[EndpointView],)),
    Operation("GET", "/api/events/{event:path}", event, "rlm explain", gives=(EventView, ItemView)),
    Operation("GET", "/api/workers", workers, "rlm worker list", gives=(list[Worker],)),
    Operation("GET", "/api/compliance", compliance, "rlm compliance", parameters.ComplianceAsked, gives=(Compliance,)),
    Operation("GET", "/api/scaling", scaling, "/api/scaling", gives=(Scaling,)),
    Operation("POST", "/api/runs", start_run, "rlm start", parameters.Ordered, gives=(Started,)),
    Operation(
        "POST", "/api/runs/{run}/cancel", cancel_run, "rlm cancel", parameters.Ordered, gives=(Record, RunStatus)
    ),
    Operation(
        "POST", "/api/failed/retry", retry_letters, "rlm failed retry", parameters.LettersOrdered, gives=(LettersDealt,)
    ),
    Operation(
        "POST", "/api/failed/drop", drop_letters, "rlm failed drop", parameters.LettersOrdered, gives=(LettersDealt,)
    ),
    Operation(
        "POST",
        "/api/endpoints/{name}/pause",
        pause_endpoint,
        "rlm endpoint pause",
        parameters.PauseOrdered,
        gives=(Paused,),
    ),
    Operation(
        "POST",
        "/api/endpoints/{name}/resume",
        resume_endpoint,
        "rlm endpoint resume",
        parameters.Ordered,
        gives=(Resumed,),
    ),
    Operation(
        "POST",
        "/api/endpoints/{name}/limit",
        limit_endpoint,
        "rlm endpoint limit",
        parameters.LimitOrdered,
        gives=(LimitChanged,),
    ),
)
