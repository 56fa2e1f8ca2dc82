"""What is served where: the routes of pages, JSON and machines, behind the checks of who may do what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from rlm.core.errors import ConfigurationError, RLMError, StoreError
from rlm.ledger import Store
from rlm.ledger.processes import Role
from rlm.settings.secrets import resolve_token
from rlm.settings.values import check_token_text
from rlm.telemetry.metrics import CONTENT_TYPE, MetricsPage
from rlm.web.access import HEADERS, Access, KnownHosts, LogIn
from rlm.web.api import api_routes, of_error, of_http
from rlm.web.pages import missing_page, page_routes


def trouble(store: Store) -> str:
    """Return why RLM is not up; empty if Redis answers and a scheduler is alive.

    Everybody who can reach the port may read it, so it names neither the address of Redis nor its user.
    """
    try:
        schedulers = store.processes.alive(Role.SCHEDULER)
    except StoreError:
        return "Redis does not answer; `rlm doctor` on this host says more"
    return "" if schedulers else "no scheduler lives; `rlm scheduler` starts one"


def redis_trouble(store: Store) -> str:
    """Return why Redis does not answer, and the remedy; empty if it does. It names the address: for the log only."""
    try:
        store.ping()
    except StoreError as error:
        return str(error)
    return ""


def make_app(
    store: Store, token: str, hosts: Iterable[str], *, metrics_only: bool = False, read_only: bool = False
) -> Starlette:
    """Return the application that serves `store`. If there is a `token`, only `/healthz` can be read without it.

    `hosts`: what `Host` may name besides this host. `metrics_only`: leave out pages and JSON. `read_only`: nothing can
    be ordered.
    """
    routes = _machines(store)
    handlers: dict[Any, Any] = {RLMError: of_error, HTTPException: of_http, Exception: of_fault}
    if not metrics_only:
        routes += [*api_routes(store), *LogIn(token).routes, *page_routes(store)]
        handlers[404] = of_missing
    app = Starlette(
        routes=routes,
        middleware=[Middleware(KnownHosts, hosts), Middleware(Access, token, read_only=read_only)],
        exception_handlers=handlers,
    )
    app.router.redirect_slashes = False  # a redirect would lead to whatever host the client named
    return app


async def of_missing(request: Request, error: HTTPException) -> Response:
    """Return the answer for an address at which there is nothing: a page to a browser."""
    wants_page = "text/html" in request.headers.get("Accept", "") and not request.url.path.startswith("/api/")
    return missing_page(request) if wants_page else await of_http(request, error)


async def of_fault(request: Request, error: Exception) -> Response:
    """Return the answer for a fault of RLM. It is made outside of `Access`, so it sets the headers itself."""
    answer = await of_http(request, error)
    answer.headers.update({**HEADERS, "Cache-Control": "no-store"})
    return answer


def _machines(store: Store) -> list[BaseRoute]:
    page = MetricsPage(store)

    def healthz(_request: Request) -> Response:
        reason = trouble(store)
        return PlainTextResponse(f"{reason}\n", 503) if reason else PlainTextResponse("ok\n")

    def metrics(_request: Request) -> Response:
        return Response(page.write(), headers={"Content-Type": CONTENT_TYPE})

    return [Route("/healthz", healthz), Route("/metrics", metrics)]


def read_token(configured: str, environ: Mapping[str, str]) -> str:
    """Return the token of `web.token`, empty if there is none; raise ConfigurationError if what it names has none."""
    token = resolve_token(configured, environ)
    if token:
        try:
            check_token_text(token)
        except ValueError as error:
            raise ConfigurationError(f"web.token: what {configured} holds: {error}") from None
    return token
