"""The JSON interface as one table of operations: their routes, their checks and /openapi.json follow from it."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable
from itertools import chain, islice
from types import UnionType
from typing import Annotated, Any, Final, NamedTuple, get_args, get_type_hints

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rlm import __version__
from rlm.admin import endpoints as live
from rlm.admin import report
from rlm.admin.errors import BadQuestionError, NoSuchEndpointError
from rlm.admin.explain import explanation
from rlm.admin.letters import Deal, LetterFilter, deal_with, grouped
from rlm.admin.planning import PlanAsk, answer, read_question, view_of
from rlm.admin.queue import queue_stats
from rlm.admin.report import cancel, cancelled, open_run
from rlm.admin.start_run import ask_scheduler, started
from rlm.admin.text import LONGEST_SECONDS, LONGEST_TEXT, Duration, seconds_in
from rlm.core import documents
from rlm.core.endpoint import Limited
from rlm.core.text import cut, safe_line
from rlm.ledger.store import Store
from rlm.web.answers import document, of_query

log = logging.getLogger(__name__)


class Asked(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The parameters of an operation, and no others."""


class Newest(Asked):
    """How many, the newest first."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 20


class LettersListed(LetterFilter):
    """Which dead letters, and how many; `grouped` counts those of each kind instead."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 20
    grouped: bool = False


class Since(Asked):
    """The time until now."""

    since: Duration = "24h"


class LettersOrdered(Asked):
    """Which dead letters: by `ids`, by a `filter`, or `all`.

    If `most` is the number counted before, letters written since then stay.
    """

    ids: Annotated[list[Annotated[str, Meta(max_length=50)]], Meta(max_length=1000)] = []
    filter: LetterFilter | None = None
    all: bool = False
    most: Annotated[int, Meta(ge=1, le=10**9)] | None = None


class Pause(Asked):
    """How long; without `seconds` until it is resumed."""

    seconds: Annotated[float, Meta(gt=0, le=LONGEST_SECONDS)] | None = None


class Limit(Asked):
    """A limit as in the configuration."""

    rate: Annotated[str, Meta(min_length=1, max_length=200)]


class Call(NamedTuple):
    """A request to an operation, and who makes it; `about` is the parameter in its path, if any."""

    store: Store
    by: str
    about: str
    given: Any

    @property
    def limited(self) -> Limited:
        """The endpoint or budget in its path; patterns are not allowed."""
        *others, limited = live.choose_limited(self.store.settings, [self.about])
        if others or limited.name != self.about:
            raise NoSuchEndpointError(f"No endpoint or budget is named {self.about!r}.")
        return limited


class Operation(NamedTuple):
    """A method of a path below /api; it `takes` parameters, of the query or of the body, and returns a document."""

    method: str
    path: str
    handle: Callable[[Call], object]
    summary: str
    takes: type[Struct] = Asked


def _plain(read: Callable[..., object], *, about: bool = False) -> Callable[[Call], object]:
    """Return what answers with what `read` returns of the store, or of the parameter in the path."""
    return functools.wraps(read)(lambda call: read(call.store, *([call.about] if about else [])))


def _runs(call: Call) -> list[documents.RunListed]:
    return report.listed(call.store, call.given.limit)


def _failed(call: Call) -> list[documents.LetterGroup] | list[Any]:
    letters, most = call.given.find(call.store), call.given.limit
    return grouped(letters)[:most] if call.given.grouped else [*map(msgspec.Raw, islice(letters, most))]


def _plan(call: Call) -> documents.Plan:
    allowed = ("run.", "workers.", "retry.", "types.", "budgets.")
    if wrong := [text for text in call.given.told if not text.startswith(allowed) or ".headers" in text]:
        raise BadQuestionError(f"set={wrong[0]!r} cannot be set here; settings of {', '.join(allowed)} can")
    question = read_question(call.store.settings, call.given)
    return view_of(answer(call.store, question), question)


def _compliance(call: Call) -> documents.Compliance:
    return live.compliance(call.store, seconds_in(call.given.since))


def _start(call: Call) -> documents.Started:
    return started(call.store, ask_scheduler(call.store, patient=True))


def _cancel(call: Call) -> documents.Record | documents.RunStatus:
    ending = open_run(call.store, call.about)
    cancel(call.store, ending)
    return cancelled(call.store, ending)


def _retry(call: Call, deal: Deal = Deal.RETRY) -> documents.LettersDealt:
    order: LettersOrdered = call.given
    chosen = order.filter or LetterFilter()
    if [bool(order.ids), bool(chosen), order.all].count(True) != 1:
        raise BadQuestionError("choose letters by exactly one of `ids`, a `filter` with a criterion, or `all`")
    total = len(order.ids) or sum(1 for _ in chosen.find(call.store))
    most = min(total, order.most or total)
    return replace(deal_with(call.store, deal, order.ids or chosen, most), more=total - most)


def _drop(call: Call) -> documents.LettersDealt:
    return _retry(call, Deal.DROP)


def _pause(call: Call) -> documents.EndpointView:
    call.store.rules.pause(call.limited, call.by, call.given.seconds)
    return live.standing(call.store)[call.about]


def _resume(call: Call) -> documents.EndpointView:
    call.store.rules.resume(call.limited, call.by)
    return live.standing(call.store)[call.about]


def _limit(call: Call) -> documents.EndpointView:
    call.store.rules.limit(call.limited, live.check_rate(call.given.rate), call.by)
    return live.standing(call.store)[call.about]


OPERATIONS: Final = (
    Operation("GET", "/status", _plain(report.now), "The open run, or that none is open."),
    Operation("GET", "/runs", _runs, "Finished runs, newest first.", Newest),
    Operation(
        "GET",
        "/runs/{run}",
        _plain(report.status_of, about=True),
        "The record of a run, or its status while it is open.",
    ),
    Operation("GET", "/queue", _plain(queue_stats), "How much waits where, and for how long."),
    Operation("GET", "/failed", _failed, "Dead letters, newest first.", LettersListed),
    Operation("GET", "/plan", _plan, "A forecast, as with the options of `rlm plan`; nothing changes.", PlanAsk),
    Operation("GET", "/endpoints", _plain(live.endpoint_list), "Limits, calls used and free, health."),
    Operation("GET", "/events/{event:path}", _plain(explanation, about=True), "One, or an item's."),
    Operation("GET", "/workers", _plain(report.worker_list), "Who works, where and since when."),
    Operation("GET", "/compliance", _compliance, "The most calls in any period, against the limit.", Since),
    Operation("GET", "/scaling", _plain(report.scaling), "Wanted and living workers, as for KEDA."),
    Operation("POST", "/runs", _start, "Start one."),
    Operation("POST", "/runs/{run}/cancel", _cancel, "End it: its record, or 202 with its status while it waits."),
    Operation("POST", "/failed/retry", _retry, "Into the next run.", LettersOrdered),
    Operation("POST", "/failed/drop", _drop, "Remove for good.", LettersOrdered),
    Operation("POST", "/endpoints/{name}/pause", _pause, "Send no new call to an endpoint, or with a budget.", Pause),
    Operation("POST", "/endpoints/{name}/resume", _resume, "End a pause, or a rest that is due to its answers."),
    Operation("POST", "/endpoints/{name}/limit", _limit, "Change it now; the window keeps its history.", Limit),
)


def api_routes(store: Store) -> list[Route]:
    """Return the routes of all operations, and of their description."""
    routes = [Route(f"/api{each.path}", _answers(store, each), methods=[each.method]) for each in OPERATIONS]
    return [*routes, Route("/openapi.json", lambda _request: document(openapi()))]


def _answers(store: Store, operation: Operation) -> Callable[[Request], object]:
    """Return what answers a request; an order is logged before it is carried out."""

    async def answered(request: Request) -> Response:
        by, is_order = request.state.by, operation.method == "POST"
        if is_order:
            given = _of_body(await request.body(), operation.takes)
            body = cut(safe_line(msgspec.json.encode(given).decode()), LONGEST_TEXT)
            log.info("%s ordered %s %s", by, request.url.path, body, extra={"action": "order"})
        else:
            given = of_query(request.query_params.multi_items(), operation.takes)
        call = Call(store, by, next(iter(request.path_params.values()), ""), given)
        content = await run_in_threadpool(operation.handle, call)
        return document(content, 202 if is_order and isinstance(content, documents.RunStatus) else 200)

    return answered


def _of_body(body: bytes, takes: type[Struct]) -> Struct:
    try:
        return msgspec.json.decode(body or b"{}", type=takes)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadQuestionError(f"the body cannot be used: {error}") from None


def openapi() -> dict[str, Any]:
    """Return the description of all operations; docs/commands.md describes the documents that they answer with."""
    parameter, reference = re.compile(r"\{(\w+)(?::path)?\}"), "#/components/schemas/{name}"
    returned = [get_type_hints(each.handle)["return"] for each in OPERATIONS]
    answers = [get_args(kind) if isinstance(kind, UnionType) else (kind,) for kind in returned]
    kinds = [*(each.takes for each in OPERATIONS), *chain(*answers)]
    forms, schemas = msgspec.json.schema_components(kinds, ref_template=reference)
    schema_of = dict(zip(kinds, forms, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for each, answered in zip(OPERATIONS, answers, strict=True):
        name, described = each.takes.__name__, dict[str, Any](summary=each.summary)
        in_path = [(name, "path", {"type": "string"}) for name in parameter.findall(each.path)]
        in_query = [(name, "query", schema) for name, schema in schemas[name]["properties"].items()]
        described["parameters"] = [
            {"name": name, "in": place, "required": place == "path", "schema": schema}
            for name, place, schema in (in_path + in_query if each.method == "GET" else in_path)
        ]
        if each.method == "POST":
            described["requestBody"] = {"content": {"application/json": {"schema": schema_of[each.takes]}}}
        document = {"schema": {"anyOf": [schema_of[kind] for kind in answered]}}
        described["responses"] = {
            "2XX": {"description": "The document.", "content": {"application/json": document}},
            "default": {"description": "`error` and `remedy`, each a sentence."},
        }
        paths.setdefault("/api" + parameter.sub(r"{\1}", each.path), {})[each.method.lower()] = described
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
