"""The application: pages, JSON and machine interfaces behind the access checks; how errors are answered.

`OPERATIONS` of the JSON interface run in threads. A refused request is answered with the error and the remedy, as JSON
on JSON paths, as text elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
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
from rlm.settings.secrets import mask, resolve
from rlm.telemetry.metrics import CONTENT_TYPE, MetricsPage
from rlm.web.access import HEADERS, Access, Cookies, KnownHosts, LogIn, visit_of
from rlm.web.answers import document, read_body, refused, wants_page
from rlm.web.openapi import openapi
from rlm.web.operations import OPERATIONS, Call, Operation
from rlm.web.pages import missing_page, page_routes
from rlm.web.parameters import of_body, of_query

#: The status for errors whose exit code is not enough, and for the exit codes.
_STATUS = {errors.NoSuchEndpointError: 404, errors.RunUnderWayError: 409, errors.NobodyConductsError: 503}
_BY_EXIT_CODE = {2: 400, 3: 404, 4: 503}


def trouble(store: Store) -> str:
    """Return why nothing is delivered; empty if it is, or may be about to.

    Everybody who reaches the port may read it, so it contains neither the address of Redis nor its user.
    """
    lasting = conditions(store, spared=("keys",))  # anybody may ask, and no such key stops everything
    stopping = next((each for each in lasting if stops(each)), None)
    return f"{KINDS[stopping.code].meaning} ({stopping.code}); `rlm doctor` on this host says more" if stopping else ""


def make_app(store: Store, token: str, hosts: Iterable[str]) -> Starlette:
    """Return the application that serves `store`. With a `token`, little can be read without it.

    `hosts` are allowed in `Host` besides this host.
    """
    ended: set[str] = set()  # the sessions that logged out; the others end with their cookie
    handlers: dict[Any, Any] = {errors.RLMError: of_error, HTTPException: of_http, Exception: of_fault}
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
        return PlainTextResponse(f"{reason or 'ok'}\n", 503 if reason else 200)

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
    status = _STATUS.get(type(error)) or _BY_EXIT_CODE.get(error.exit_code, 500)
    is_away = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    remedy = "`rlm doctor` on the host says more." if is_away else "/openapi.json describes what may be asked."
    if isinstance(error, errors.StoreError) and error.remedy:
        return refused(request, status, mask(error.what), mask(error.remedy))
    return refused(request, status, mask(str(error)), remedy)


async def of_http(request: Request, error: HTTPException) -> Response:
    """Return the answer for a path or method that is not served: a page to a browser that asks for an unknown one."""
    if error.status_code == HTTPStatus.NOT_FOUND and wants_page(request):
        return missing_page(request)
    return refused(request, error.status_code, f"{error.detail}.", "/openapi.json lists what there is.", error.headers)


async def of_fault(request: Request, _error: Exception) -> Response:
    """Return the answer for a fault of RLM. It is made outside of `Access`, so it sets the headers itself."""
    headers = {**HEADERS, "Cache-Control": "no-store"}
    return refused(request, 500, "This is a fault of RLM.", "The log of `rlm web` says more; report it.", headers)


def read_token(configured: str, environ: Mapping[str, str]) -> str:
    """Return the token of `web.token`, empty if unset; raise ConfigurationError if its source has no valid token."""
    try:
        token = resolve(configured, environ)
    except ValueError:
        token = ""
    if configured and not re.fullmatch(r"[!-~]{16,200}", token):
        words = f"web.token: {configured} must hold 16 to 200 visible ASCII characters; see `openssl rand -hex 32`"
        raise errors.ConfigurationError(words)
    return token
