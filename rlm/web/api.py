"""The JSON interface: each operation is a function; its routes, checks and /openapi.json follow from its signature.

A function takes the call, and after it the parameters with their rules: those of the query, or of the body of an order.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable
from itertools import islice
from typing import Annotated, Any, Final, NamedTuple, TypeVar, get_type_hints

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rlm import __version__
from rlm.admin import compliance as calls_log
from rlm.admin import endpoints as live
from rlm.admin import report
from rlm.admin.endpoints import LONGEST_PAUSE_SECONDS
from rlm.admin.explain import explanation
from rlm.admin.letters import Deal, LetterFilter, deal_with
from rlm.admin.letters import grouped as in_groups
from rlm.admin.planning import PlanAsk, answer, read_question, view_of
from rlm.admin.queue import queue_stats
from rlm.admin.report import cancel, cancelled, entry_of, open_run, runs_page
from rlm.admin.start_run import ask_scheduler, started
from rlm.core.documents import RunStatus
from rlm.core.endpoint import Limited
from rlm.core.errors import BadQuestionError, NoSuchEndpointError
from rlm.core.text import Duration, Texts, counted, named, seconds_in
from rlm.ledger.store import Store
from rlm.web.answers import Asked, document, of_query, read_body

_Handler = TypeVar("_Handler", bound=Callable[..., Any])

_Limit = Annotated[int, Meta(ge=1, le=1000, description="How many, the newest first.")]

log = logging.getLogger(__name__)


class Call(NamedTuple):
    """A request to an operation, and who makes it; `about` is the parameter in its path, if any."""

    store: Store
    by: str
    about: str
    asked: Any

    @property
    def limited(self) -> Limited:
        """The endpoint or budget in its path; patterns are not allowed."""
        *others, limited = live.choose_limited(self.store.settings, [self.about])
        if others or limited.name != self.about:
            raise NoSuchEndpointError(f"No endpoint or budget is named {self.about!r}.")
        return limited

    def note(self, what: str, about: str = "") -> None:
        """Log an order before it is carried out."""
        log.info("%s ordered %s %s", self.by, what, about or self.about, extra={"action": "order"})


class Operation(NamedTuple):
    """A method of a path. `handle` returns the document; `own` are those parameters that it takes one by one."""

    method: str
    path: str
    takes: type[Struct]
    own: tuple[str, ...]
    handle: Callable[..., Any]


OPERATIONS: Final = list[Operation]()


def _serves(method: str, path: str, also: type[Struct] = Asked) -> Callable[[_Handler], _Handler]:
    """Serve a function at a path; `also` are parameters that it finds in `call.asked`, besides its own."""

    def add(handle: _Handler) -> _Handler:
        hints, (_, *own) = get_type_hints(handle, include_extras=True), inspect.signature(handle).parameters.values()
        fields = [
            (each.name, hints[each.name], *([] if each.default is each.empty else [each.default])) for each in own
        ]
        takes = msgspec.defstruct(handle.__name__, fields, bases=(also,), kw_only=True)
        OPERATIONS.append(Operation(method, path, takes, tuple(each.name for each in own), handle))
        return handle

    return add


@_serves("GET", "/api/status")
def status(call: Call) -> object:
    """Return the open run, or that none is open."""
    return report.status(call.store, None)


@_serves("GET", "/api/runs")
def runs(call: Call, limit: _Limit = 20) -> object:
    """List finished runs, newest first."""
    return [entry_of(record) for record in runs_page(call.store, limit).records]


@_serves("GET", "/api/runs/{run}")
def run(call: Call) -> object:
    """Return the record of a run, or its status while it is open."""
    return report.status(call.store, report.find_run(call.store, call.about) or call.about)


@_serves("GET", "/api/queue")
def queue(call: Call) -> object:
    """Return how much waits where, by type, and how old the oldest is."""
    return queue_stats(call.store)


@_serves("GET", "/api/failed", LetterFilter)
def failed(call: Call, limit: _Limit = 20, grouped: bool = False) -> object:
    """List dead letters, newest first; `grouped` counts those of each kind instead."""
    letters = call.asked.find(call.store)
    return in_groups(letters)[:limit] if grouped else [*map(msgspec.Raw, islice(letters, limit))]


@_serves("GET", "/api/plan")
def plan(
    call: Call,
    count: Texts = [],  # noqa: B006  # msgspec copies it
    workers: Annotated[int, Meta(ge=1, le=1000)] | None = None,
    set: Texts = [],  # noqa: A002, B006  # the name of the option
    add_endpoint: Texts = [],  # noqa: B006
) -> object:
    """Forecast a run as the settings are, or as with the options of `rlm plan`; nothing is taken, sent or changed."""
    allowed = ("run.", "workers.", "retry.", "types.", "budgets.")
    if wrong := [text for text in set if not text.startswith(allowed) or ".headers" in text]:
        raise BadQuestionError(f"set={wrong[0]!r} cannot be set here; settings of {', '.join(allowed)} can")
    question = read_question(call.store.settings, PlanAsk(count, workers, set, add_endpoint))
    return view_of(answer(call.store, question), question)


@_serves("GET", "/api/endpoints")
def endpoints(call: Call) -> object:
    """List endpoints and budgets: limit, calls used and free, health."""
    return live.endpoint_list(call.store)


@_serves("GET", "/api/events/{event:path}")
def event(call: Call) -> object:
    """Explain where an event is, and each attempt; likewise all events of an item."""
    return explanation(call.store, call.about)


@_serves("GET", "/api/workers")
def workers(call: Call) -> object:
    """List the workers: where and since when they run, and how many events each works on."""
    return report.worker_list(call.store)


@_serves("GET", "/api/compliance")
def compliance(call: Call, since: Duration = "24h") -> object:
    """Return the most calls in any period, by endpoint and budget, against its limit."""
    return calls_log.compliance(call.store, seconds_in(since))


@_serves("GET", "/api/scaling")
def scaling(call: Call) -> object:
    """Return how many workers are wanted, and how many there are, as KEDA's scaler `metrics-api` reads it."""
    return report.scaling(call.store)


@_serves("POST", "/api/runs")
def start_run(call: Call) -> object:
    """Start a run now, by the scheduler."""
    call.note("start_run")
    return started(call.store, ask_scheduler(call.store, patient=True))


@_serves("POST", "/api/runs/{run}/cancel")
def cancel_run(call: Call) -> object:
    """End the open run now: its record, or its status with 202 while calls are still awaited."""
    ending = open_run(call.store, call.about)
    call.note("cancel_run", ending.id)
    cancel(call.store, ending)
    return cancelled(call.store, ending)


class LettersOrdered(Asked):
    """Which dead letters: by `ids`, by a `filter`, or `all`.

    If `most` is the number counted before, letters written since then stay.
    """

    ids: Annotated[list[Annotated[str, Meta(max_length=50)]], Meta(max_length=1000)] = msgspec.field(
        default_factory=list
    )
    filter: LetterFilter | None = None
    all: bool = False
    most: Annotated[int, Meta(ge=1, le=10**9)] | None = None


@_serves("POST", "/api/failed/retry", LettersOrdered)
def retry_letters(call: Call) -> object:
    """Send the events of dead letters into the next run; `more` than `most` are left."""
    return _deal(Deal.RETRY, call)


@_serves("POST", "/api/failed/drop", LettersOrdered)
def drop_letters(call: Call) -> object:
    """Remove dead letters for good; `more` than `most` are left."""
    return _deal(Deal.DROP, call)


def _deal(deal: Deal, call: Call) -> object:
    order: LettersOrdered = call.asked
    chosen = order.filter or LetterFilter()
    if [bool(order.ids), bool(chosen), order.all].count(True) != 1:
        raise BadQuestionError("choose letters by exactly one of `ids`, a `filter` with a criterion, or `all`")
    total = len(order.ids) or sum(1 for _ in chosen.find(call.store))
    which = named(order.ids, 10) if order.ids else msgspec.json.encode(order.filter).decode() if chosen else "all"
    call.note("retry_letters" if deal is Deal.RETRY else "drop_letters", f"{counted(total, 'dead letter')}: {which}")
    most = min(total, order.most or total)
    return replace(deal_with(call.store, deal, order.ids or chosen, most), more=total - most)


@_serves("POST", "/api/endpoints/{name}/pause")
def pause_endpoint(call: Call, seconds: Annotated[float, Meta(gt=0, le=LONGEST_PAUSE_SECONDS)] | None = None) -> object:
    """Send no new call to an endpoint, or to any endpoint of a budget; without `seconds` until it is resumed."""
    limited = call.limited
    call.note("pause_endpoint")
    call.store.control.pause(limited, call.by, seconds)
    return live.standing(call.store)[call.about]


@_serves("POST", "/api/endpoints/{name}/resume")
def resume_endpoint(call: Call) -> object:
    """End a pause, or a rest that is due to an endpoint's answers."""
    limited = call.limited
    call.note("resume_endpoint")
    call.store.control.resume(limited, call.by)
    return live.standing(call.store)[call.about]


@_serves("POST", "/api/endpoints/{name}/limit")
def limit_endpoint(call: Call, rate: Annotated[str, Meta(min_length=1, max_length=200)]) -> object:
    """Change a limit now, to a `rate` as in the configuration; the window keeps its history."""
    limited, checked = call.limited, live.check_rate(rate)
    call.note("limit_endpoint", f"{call.about} to {checked}")
    call.store.control.limit(limited, checked, call.by)
    return live.standing(call.store)[call.about]


def api_routes(store: Store) -> list[Route]:
    """Return the routes of all operations, and of their description."""
    routes = [Route(each.path, _answers(store, each), methods=[each.method]) for each in OPERATIONS]
    return [*routes, Route("/openapi.json", lambda _request: document(openapi()))]


def _answers(store: Store, operation: Operation) -> Callable[[Request], object]:
    async def answered(request: Request) -> Response:
        if operation.method == "GET":
            asked = of_query(request.query_params.multi_items(), operation.takes)
        else:
            asked = _of_body(await read_body(request), operation.takes)
        call = Call(store, request.state.by, next(iter(request.path_params.values()), ""), asked)
        own = {name: getattr(asked, name) for name in operation.own}
        content = await run_in_threadpool(operation.handle, call, **own)
        return document(content, 202 if operation.handle is cancel_run and isinstance(content, RunStatus) else 200)

    return answered


def _of_body(body: bytes, takes: type[Struct]) -> Struct:
    try:
        return msgspec.json.decode(body or b"{}", type=takes)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadQuestionError(f"the body cannot be used: {error}") from None


def openapi() -> dict[str, Any]:
    """Return the description of all operations; docs/commands.md describes the documents that they answer with."""
    parameter, reference = re.compile(r"\{(\w+)(:path)?\}"), "#/components/schemas/{name}"
    _, schemas = msgspec.json.schema_components([each.takes for each in OPERATIONS], ref_template=reference)
    paths: dict[str, dict[str, Any]] = {}
    for each in OPERATIONS:
        in_path, name = parameter.findall(each.path), each.takes.__name__
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name, _ in in_path
        ]
        described: dict[str, Any] = {"summary": each.handle.__doc__, "operationId": name, "parameters": parameters}
        if each.method == "GET":
            in_query = schemas[name]["properties"].items()
            parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in in_query]
        else:
            body = {"schema": {"$ref": reference.format(name=name)}}
            described["requestBody"] = {"content": {"application/json": body}}
        described["responses"] = {"default": {"description": "A document, or `error` and `remedy`."}}
        paths.setdefault(parameter.sub(r"{\1}", each.path), {})[each.method.lower()] = described
    for path in ("/healthz", "/metrics"):
        paths[path] = {"get": {"responses": {"200": {"description": "Text."}}}}
    token = {"type": "http", "scheme": "bearer", "description": "The token of web.token."}
    return {
        "openapi": "3.1.0",
        "info": {"title": "RLM, the Rate Limit Manager", "version": __version__},
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": token}},
    }
