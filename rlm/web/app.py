"""What is served where. Each answer is made when it is asked for, and no cache may keep it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from rlm import __version__
from rlm.core.errors import StoreError
from rlm.ledger.connect import translated
from rlm.ledger.processes import Role
from rlm.telemetry.metrics import CONTENT_TYPE, MetricsPage
from rlm.web.access import KnownHosts, allowed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request

    from rlm.ledger import Store


def trouble(store: Store) -> str:
    """Say why RLM is not up, empty where it is: Redis answers and a scheduler lives.

    Whoever can reach the port may read it, so it says neither where Redis is nor who may log in.
    """
    try:
        schedulers = store.processes.alive(Role.SCHEDULER)
    except StoreError:
        return "Redis does not answer; `rlm doctor` on this host says more"
    return "" if schedulers else "no scheduler lives; `rlm scheduler` starts one"


def redis_trouble(store: Store) -> str:
    """Say why Redis does not answer, and what to do, empty where it does. It names the place: for the log only."""
    try:
        with translated(store.client):
            store.client.ping()
    except StoreError as error:
        return str(error)
    return ""


_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_OVERVIEW = f"""RLM {__version__}

/healthz  200 while Redis answers and a scheduler lives, else 503 with the reason
/metrics  for Prometheus
"""


def make_app(store: Store, token: str, hosts: Iterable[str], *, metrics_only: bool = False) -> Starlette:
    """Make the application over `store`. With a `token` nothing but `/healthz` is read without it.

    `hosts`: what `Host` may name besides this host. `metrics_only`: there is no page for people, only what machines ask
    for.
    """
    page = MetricsPage(store)

    def overview(request: Request) -> Response:
        return _refusal(request, token) or _text(_OVERVIEW)

    def healthz(_request: Request) -> Response:
        reason = trouble(store)
        return _text(f"{reason}\n", 503) if reason else _text("ok\n")

    def metrics(request: Request) -> Response:
        return _refusal(request, token) or Response(page.write(), headers={**_HEADERS, "Content-Type": CONTENT_TYPE})

    machines = [Route("/healthz", healthz), Route("/metrics", metrics)]
    routes = machines if metrics_only else [Route("/", overview), *machines]
    middleware = [Middleware(KnownHosts, hosts)]
    app = Starlette(routes=routes, middleware=middleware, exception_handlers={HTTPException: _not_served})
    app.router.redirect_slashes = False  # it would send a client to whatever host it says it asked
    return app


def _refusal(request: Request, token: str) -> Response | None:
    """Return what is said to somebody without the token; None where the request may go on."""
    if allowed(request.headers.get("Authorization"), token):
        return None
    response = _text("say `Authorization: Bearer TOKEN`, with the token of web.token\n", 401)
    response.headers["WWW-Authenticate"] = 'Bearer realm="rlm"'
    return response


def _not_served(_request: Request, error: Exception) -> Response:
    """Answer what nothing is served for; a cache may keep such an answer too, if it is not told otherwise."""
    if not isinstance(error, HTTPException):
        raise error
    response = _text(f"{error.detail}\n", error.status_code)
    response.headers.update(error.headers or {})
    return response


def _text(text: str, status: int = 200) -> PlainTextResponse:
    return PlainTextResponse(text, status, _HEADERS)
