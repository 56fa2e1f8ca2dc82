"""The application: pages, JSON and machine interfaces behind the access checks; how errors are answered.

`OPERATIONS` of the JSON interface run in threads. A refused request is answered with the error and the remedy, as JSON
on JSON paths, as text elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from rlm.admin.conditions import KINDS, conditions, stops
from rlm.core import errors
from rlm.core.documents import RunStatus
from rlm.ledger.store import Store
from rlm.settings.checks import check_token_text
from rlm.settings.secrets import mask, resolve_token
from rlm.telemetry.metrics import CONTENT_TYPE, MetricsPage
from rlm.web.access import HEADERS, Access, Cookies, KnownHosts, LogIn, visit_of
from rlm.web.answers import document, read_body, refused, wants_page
from rlm.web.openapi import openapi
from rlm.web.operations import OPERATIONS, Call, Operation, of_body, of_query
from rlm.web.pages import missing_page, page_routes

_BAD, _NOT_FOUND, _CONFLICT, _UNAVAILABLE, _FAULT = 400, 404, 409, 503, 500
_DESCRIBED = "/openapi.json describes each parameter."
#: Status and remedy of each error, most specific first.
_ANSWERS: tuple[tuple[type[errors.RLMError], int, str], ...] = (
    (errors.BadQuestionError, _BAD, _DESCRIBED),
    (errors.AmbiguousRunError, _BAD, "Give more of the run's id; GET /api/runs lists them."),
    (errors.NoSuchRunError, _NOT_FOUND, "GET /api/runs lists the runs on record; GET /api/status names the open run."),
    (errors.NoSuchLetterError, _NOT_FOUND, "GET /api/failed lists the dead letters."),
    (errors.NoSuchEndpointError, _NOT_FOUND, "GET /api/endpoints lists endpoints and budgets."),
    (errors.RunUnderWayError, _CONFLICT, "Wait for its end, or cancel it first."),
    (errors.NobodyConductsError, _UNAVAILABLE, "Start a scheduler: `rlm up`, or `rlm scheduler`."),
    (errors.StoreError, _UNAVAILABLE, "`rlm doctor` on the host of RLM says more."),
    (errors.ConfigurationError, _BAD, _DESCRIBED),
    (errors.RLMError, _FAULT, "`rlm doctor` on the host of RLM says more."),
)


def trouble(store: Store) -> str:
    """Return why nothing is delivered; empty if it is, or may be about to.

    Everybody who reaches the port may read it, so it contains neither the address of Redis nor its user.
    """
    found = next((each for each in conditions(store) if stops(each)), None)
    return f"{KINDS[found.code].meaning} ({found.code}); `rlm doctor` on this host says more" if found else ""


def make_app(store: Store, token: str, hosts: Iterable[str]) -> Starlette:
    """Return the application that serves `store`. With a `token`, little can be read without it.

    `hosts` are allowed in `Host` besides this host.
    """
    ended: set[str] = set()  # the sessions that logged out; the others end with their cookie
    handlers: dict[Any, Any] = {
        errors.RLMError: of_error,
        HTTPException: of_http,
        404: of_missing,
        Exception: of_fault,
    }
    app = Starlette(
        routes=[*machine_routes(store), *api_routes(store), *LogIn(token, ended).routes, *page_routes(store)],
        middleware=[Middleware(KnownHosts, hosts), Middleware(Cookies, token), Middleware(Access, token, ended)],
        exception_handlers=handlers,
    )
    app.router.redirect_slashes = False  # a redirect would lead to any host that the client named
    return app


def machine_routes(store: Store) -> list[BaseRoute]:
    """Return the routes of the health check and of the metrics."""
    page = MetricsPage(store)

    def healthz(_request: Request) -> Response:
        reason = trouble(store)
        return PlainTextResponse(f"{reason}\n", 503) if reason else PlainTextResponse("ok\n")

    def metrics(_request: Request) -> Response:
        return Response(page.write(), headers={"Content-Type": CONTENT_TYPE})

    return [Route("/healthz", healthz), Route("/metrics", metrics)]


def api_routes(store: Store) -> list[Route]:
    """Return the routes of all operations, and of their description."""
    of_path: dict[str, dict[str, Operation]] = {}
    for each in OPERATIONS:
        of_path.setdefault(each.path, {})[each.method] = each
    routes = [Route(path, _endpoint(store, methods), methods=list(methods)) for path, methods in of_path.items()]
    return [*routes, Route("/openapi.json", lambda _request: document(openapi()))]


def _endpoint(store: Store, operations: Mapping[str, Operation]) -> Callable[[Request], object]:
    async def answer(request: Request) -> Response:
        operation = operations["GET" if request.method == "HEAD" else request.method]
        if reads := operation.method == "GET":
            asked = of_query(request.query_params.multi_items(), operation.takes)
        else:
            asked = of_body(await _json_body(request), operation.takes)
        about = next(iter(request.path_params.values()), "")
        content = await run_in_threadpool(operation.handle, Call(store, visit_of(request), about, asked))
        return document(content, 200 if reads or not isinstance(content, RunStatus) else 202)

    return answer


async def _json_body(request: Request) -> bytes:
    """Return the body; require its type to be JSON, which a form of a foreign page cannot set."""
    body = await read_body(request)
    if body and request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "The body must be JSON, with `Content-Type: application/json`")
    return body


async def of_error(request: Request, error: errors.RLMError) -> Response:
    """Return the answer for an error of RLM, with secrets masked."""
    status, remedy = next((status, remedy) for kind, status, remedy in _ANSWERS if isinstance(error, kind))
    if isinstance(error, errors.StoreError) and error.remedy:
        return refused(request, status, mask(error.what), mask(error.remedy))
    return refused(request, status, mask(str(error)), remedy)


async def of_http(request: Request, error: Exception) -> Response:
    """Return the answer for a path or method that is not served, and for a fault of RLM."""
    if not isinstance(error, HTTPException):
        return refused(request, _FAULT, "This is a fault of RLM.", "The log of `rlm web` says more; report it.")
    remedy = "/openapi.json lists what there is." if error.status_code != _BAD else ""
    return refused(request, error.status_code, f"{error.detail}.", remedy, error.headers)


async def of_missing(request: Request, error: HTTPException) -> Response:
    """Return the answer for an unknown address: a page to a browser."""
    return missing_page(request) if wants_page(request) else await of_http(request, error)


async def of_fault(request: Request, error: Exception) -> Response:
    """Return the answer for a fault of RLM. It is made outside of `Access`, so it sets the headers itself."""
    answer = await of_http(request, error)
    answer.headers.update({**HEADERS, "Cache-Control": "no-store"})
    return answer


def read_token(configured: str, environ: Mapping[str, str]) -> str:
    """Return the token of `web.token`, empty if unset; raise ConfigurationError if its source has no valid token."""
    token = resolve_token(configured, environ)
    if token:
        try:
            check_token_text(token)
        except ValueError as error:
            raise errors.ConfigurationError(f"web.token: the value of {configured}: {error}") from None
    return token
