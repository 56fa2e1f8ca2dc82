"""The application: pages, JSON and machine interfaces behind the access checks; how errors are answered."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from rlm.admin.conditions import KINDS, conditions, stops
from rlm.admin.errors import NoSuchEndpointError
from rlm.core import errors
from rlm.ledger.store import Store
from rlm.settings.secrets import mask, resolve
from rlm.telemetry.metrics import CONTENT_TYPE, MetricsPage
from rlm.web.access import Access
from rlm.web.answers import refused, wants_page
from rlm.web.api import api_routes
from rlm.web.pages import missing_page, page_routes


def make_app(store: Store, token: str, hosts: Iterable[str]) -> Starlette:
    """Return the application that serves `store`. With a `token`, little can be read without it.

    `hosts` are allowed in `Host` besides this host.
    """
    access = Access(token, hosts)
    fault = "This is a fault of RLM.", "The log of `rlm web` says more; report it."
    handlers: dict[Any, Any] = {
        errors.RLMError: of_error,
        HTTPException: of_http,
        ClientDisconnect: lambda request, _error: refused(request, 400, "The body ended too early.", "Send it whole."),
        Exception: lambda request, _error: refused(request, 500, *fault),
    }
    routes = [*machine_routes(store), *api_routes(store), *access.routes, *page_routes(store)]
    app = Starlette(routes=routes, middleware=access.middleware, exception_handlers=handlers)
    app.router.redirect_slashes = False  # a redirect would lead to any host that the client named
    return app


def machine_routes(store: Store) -> list[BaseRoute]:
    """Return the routes of the health check and of the metrics."""
    page = MetricsPage(store)

    def healthz(_request: Request) -> Response:
        # Anybody may read it, so it contains no address and no user; and no single key stops everything.
        stopping = next((each for each in conditions(store) if stops(each)), None)
        if stopping is None:
            return PlainTextResponse("ok\n")
        why = f"{KINDS[stopping.code].meaning} ({stopping.code}); `rlm doctor` on this host says more\n"
        return PlainTextResponse(why, 503)

    def metrics(_request: Request) -> Response:
        return Response(page.write(), headers={"Content-Type": CONTENT_TYPE})

    return [Route("/healthz", healthz), Route("/metrics", metrics)]


async def of_error(request: Request, error: errors.RLMError) -> Response:
    """Return the answer for an error of RLM, with secrets masked."""
    status = {1: 503, 2: 400, 3: 404, 4: 503}.get(error.exit_code, 500)
    status = 404 if isinstance(error, NoSuchEndpointError) else 409 if type(error) is errors.RunError else status
    what, remedy, *_ = *str(error).split(". ", 1), "/openapi.json describes what may be asked."
    if isinstance(error, errors.StoreError):
        what, remedy = error.what, error.remedy or "`rlm doctor` on the host says more."
    return refused(request, status, mask(what), mask(remedy))


async def of_http(request: Request, error: HTTPException) -> Response:
    """Return the answer for a path or method that is not served: a page to a browser that asks for an unknown one."""
    if error.status_code == 404 and wants_page(request):  # noqa: PLR2004
        return missing_page(request)
    return refused(request, error.status_code, f"{error.detail}.", "/openapi.json lists what there is.", error.headers)


def read_token(configured: str, environ: Mapping[str, str]) -> str:
    """Return the token of `web.token`, empty if unset; raise ConfigurationError if its source has no valid token."""
    try:
        token = resolve(configured, environ)
    except ValueError:
        token = ""
    if configured and not re.fullmatch(r"[!-~]{16,200}", token):
        name = configured.replace("env:", "the variable ", 1)  # `env:NAME` as a whole is masked
        words = f"web.token: {name} must hold 16 to 200 visible ASCII characters; see `openssl rand -hex 32`"
        raise errors.ConfigurationError(words)
    return token
