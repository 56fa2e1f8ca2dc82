"""What is served where, and who may ask: the token, and the hosts that a request may name in `Host`.

Each answer is made when it is asked for, and no cache may keep it.
"""

from __future__ import annotations

import hmac
import re
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from rlm import __version__
from rlm.core.errors import ConfigurationError, StoreError
from rlm.ledger.processes import Role
from rlm.settings.secrets import resolve_token
from rlm.settings.values import check_token_text
from rlm.telemetry.metrics import CONTENT_TYPE, MetricsPage
from rlm.web.pages import page_routes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from rlm.ledger import Store


_OVERVIEW = f"""RLM {__version__}

/healthz  200 while Redis answers and a scheduler lives, else 503 with the reason
/metrics  for Prometheus
"""
_SCHEME = "bearer"
#: A name or IPv4 address, or an IPv6 address in brackets; then perhaps a port.
_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(:\d{1,5})?|\[(?P<ipv6>[0-9A-Fa-f:.]+)\](:\d{1,5})?")


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

    def healthz(_request: Request) -> Response:
        reason = trouble(store)
        return PlainTextResponse(f"{reason}\n", 503) if reason else PlainTextResponse("ok\n")

    def metrics(request: Request) -> Response:
        return _unauthorized(request, token) or Response(page.write(), headers={"Content-Type": CONTENT_TYPE})

    machines = [Route("/healthz", healthz), Route("/metrics", metrics)]
    routes = machines if metrics_only else [*page_routes(store), *machines]
    app = Starlette(routes=routes, middleware=[Middleware(KnownHosts, hosts)])
    app.router.redirect_slashes = False  # a redirect would lead to whatever host the client named
    return app


def read_token(configured: str, environ: Mapping[str, str]) -> str:
    """Return the token of the setting `web.token`, empty if there is none.

    Raises:
        ConfigurationError: the variable that it names is not set, or holds no token. The message has no secret.
    """
    token = resolve_token(configured, environ)
    if token:
        try:
            check_token_text(token)
        except ValueError as error:
            raise ConfigurationError(f"web.token: what {configured} holds: {error}") from None
    return token


def allowed(authorization: str | None, token: str) -> bool:
    """Return whether a request with this `Authorization` header may read, in constant time. Without a token all may."""
    scheme, _, said = (authorization or "").partition(" ")
    right = hmac.compare_digest(said.strip().encode("utf-8", "surrogateescape"), token.encode())
    return not token or (right and scheme.lower() == _SCHEME)


def _unauthorized(request: Request, token: str) -> Response | None:
    """Return the answer to a request without the token, None if it may go on."""
    if allowed(request.headers.get("Authorization"), token):
        return None
    told = "say `Authorization: Bearer TOKEN`, with the token of web.token\n"
    return PlainTextResponse(told, 401, {"WWW-Authenticate": 'Bearer realm="rlm"'})


class KnownHosts:
    """Refuses a request whose `Host` is missing or doubled (400), or is none of those below (421).

    Else a web page could read what is served here by DNS rebinding: its name is made to lead to this address, and only
    `Host` shows it. Allowed are localhost and the loopback addresses, `listed` names and addresses, and the address at
    which the request arrived: a browser sends that only for a page that was loaded from it.
    """

    def __init__(self, app: ASGIApp, listed: Iterable[str]) -> None:
        self._app = app
        self._listed = frozenset(map(_normal, listed))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on to the application."""
        values = [value for name, value in scope["headers"] if name == b"host"]
        host = _parse_host(values[0].decode("latin-1")) if len(values) == 1 else None
        answer = self._app
        if host is None:
            answer = PlainTextResponse("the request must have one Host header\n", 400, {"Connection": "close"})
        elif not (is_loopback(host) or host in self._listed or host == _normal((scope.get("server") or ("",))[0])):
            answer = PlainTextResponse("this host is not listed in web.hosts\n", 421, {"Connection": "close"})
        await answer(scope, receive, send)


def is_loopback(host: str) -> bool:
    """Return whether `host`, a name or an IP address, leads to this host only."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _parse_host(value: str) -> str | None:
    """Return the host in a `Host` header, normalised and without port or brackets; None if it is none."""
    found = _HOST.fullmatch(value)
    return _normal(found["name"] or found["ipv6"]) if found else None


def _normal(host: str) -> str:
    address = _address(host.strip("[]"))
    return host.lower() if address is None else str(address)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return `host` as an address, the IPv4 one if it is mapped into IPv6; None if it is a name."""
    with suppress(ValueError):
        address = ip_address(host.partition("%")[0])
        return getattr(address, "ipv4_mapped", None) or address
    return None
