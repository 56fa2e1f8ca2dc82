"""What is served where. Each answer is made when it is asked for, and no cache may keep it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from rlm import __version__
from rlm.core.errors import StoreError
from rlm.ledger.processes import Role
from rlm.telemetry.metrics import CONTENT_TYPE, MetricsPage
from rlm.web.access import KnownHosts, allowed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request

    from rlm.ledger import Store


_OVERVIEW = f"""RLM {__version__}

/healthz  200 while Redis answers and a scheduler lives, else 503 with the reason
/metrics  for Prometheus
"""


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


def make_app(store: Store, token: str, hosts: Iterable[str], *, metrics_only: bool = False) -> Starlette:
    """Return the application that serves `store`. If there is a `token`, only `/healthz` can be read without it.

    `hosts`: what `Host` may name besides this host. `metrics_only`: leave out the page for people.
    """
    page = MetricsPage(store)

    def overview(request: Request) -> Response:
        return _refusal(request, token) or PlainTextResponse(_OVERVIEW)

    def healthz(_request: Request) -> Response:
        reason = trouble(store)
        return PlainTextResponse(f"{reason}\n", 503) if reason else PlainTextResponse("ok\n")

    def metrics(request: Request) -> Response:
        return _refusal(request, token) or Response(page.write(), headers={"Content-Type": CONTENT_TYPE})

    machines = [Route("/healthz", healthz), Route("/metrics", metrics)]
    routes = machines if metrics_only else [Route("/", overview), *machines]
    app = Starlette(routes=routes, middleware=[Middleware(KnownHosts, hosts)])
    app.router.redirect_slashes = False  # a redirect would lead to whatever host the client named
    return app


def _refusal(request: Request, token: str) -> Response | None:
    """Return the answer to a request without the token, None if it may go on."""
    if allowed(request.headers.get("Authorization"), token):
        return None
    told = "say `Authorization: Bearer TOKEN`, with the token of web.token\n"
    return PlainTextResponse(told, 401, {"WWW-Authenticate": 'Bearer realm="rlm"'})
