"""Who may read and write, by which host names; sessions, the log-in with the token, security headers.

A session is a signed cookie of starlette with a name and a CSRF token. If a token is configured, a log-in starts it; it
survives a restart of `rlm web`, because its key is derived from the token. Without a token, on the loopback interface,
the first page starts it: it grants no access, but only pages loaded from here know its CSRF token.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from markupsafe import escape
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from rlm.web.answers import refused, wants_page
from rlm.web.pages.page import render

#: A session ends so long after it began, seconds.
SESSION_SECONDS: Final = 7 * 86_400
#: On every answer, whoever makes it.
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "same-origin",  # with `no-referrer`, browsers send forms with `Origin: null`
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
#: Most wrong attempts to log in from one address; beyond that even the right token is refused.
EACH: Final = parse("5/minute")

log = logging.getLogger(__name__)


class Access:
    """Determines who makes a request, refuses what it may not do; starts and ends sessions.

    Only those that log out are remembered, in `ended`; the others end with their cookie.
    """

    def __init__(self, token: str, hosts: Iterable[str]) -> None:
        """Accept `token`, and requests to `hosts` besides this one."""
        self._token = token
        self._hosts = frozenset(map(_normal, hosts))
        self._ended = set[str]()
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    @property
    def middleware(self) -> list[Middleware]:
        """Its parts around an application.

        The key of sessions is derived from the token, so that a restart ends none, and the cookie's name from the key
        because browsers send the cookies of a host to all its ports. With a token it goes over https only, or to this
        host itself.
        """
        key = sha256(f"sessions {self._token}".encode()).hexdigest() if self._token else secrets.token_hex()
        name = f"rlm_session_{sha256(key.encode()).hexdigest()[:8]}"
        sessions = Middleware(
            SessionMiddleware, key, name, SESSION_SECONDS, same_site="strict", https_only=bool(self._token)
        )
        return [sessions, Middleware(self._guard)]

    @property
    def routes(self) -> list[Route]:
        """The routes of the log-in and the log-out."""
        return [Route("/login", self.log_in, methods=["GET", "POST"]), Route("/logout", self.log_out, methods=["POST"])]

    def _guard(self, app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            await (self._refusal(Request(scope)) or app)(scope, receive, send)

        return answer

    def _refusal(self, request: Request) -> Response | None:
        """Return the refusal of a request; None if it may continue."""
        if not self._is_here(request):
            return PlainTextResponse("this host is not listed in web.hosts\n", 421)
        path, token, session = request.url.path, self._token, request.session
        has_token = bool(token) and says_token(request.headers.get("Authorization"), token)
        if session.get("name") in self._ended:
            session.clear()
        who = "token" if has_token else f"session {session.get('name')}"
        request.state.by = f"{who} at {_address_of(request)}"
        may_read = has_token or not token or bool(session)
        if request.method in {"GET", "HEAD", "OPTIONS"}:
            if may_read and not token and not session and wants_page(request):
                _begin(session)
            if may_read or path in {"/login", "/healthz"} or path.startswith("/static/"):
                return None
            if wants_page(request):
                return _log_in_page(f"{path}?{request.url.query}" if request.url.query else path)
        elif may_read or path == "/login":
            return None if has_token else _not_from_here(request)
        remedy = "Send `Authorization: Bearer TOKEN`, with the token of web.token, or log in at /login."
        challenge = {"WWW-Authenticate": 'Bearer realm="rlm"'}
        return refused(request, 401, "The token is missing or wrong.", remedy, challenge)

    def _is_here(self, request: Request) -> bool:
        """Return whether a request names one host, which is allowed.

        Otherwise a web page could read this server by DNS rebinding: its name is made to resolve to this address,
        which only `Host` reveals. Allowed are the loopback names and addresses, those listed, and the address at which
        the request arrived: a browser sends that address only for a page loaded from it.
        """
        named, arrived = request.headers.getlist("Host"), (request.scope.get("server") or ("",))[0]
        with suppress(ValueError):  # it is no host, or none or two are named
            (text,) = named
            address = urlsplit(f"//{text}")
            if address.hostname and address.netloc == text and "@" not in text and (address.port or 0) >= 0:
                host = _normal(address.hostname)
                return is_loopback(host) or host in {*self._hosts, _normal(arrived)}
        return False

    async def log_in(self, request: Request) -> Response:
        """Ask for the token, or start a session for the right one."""
        if request.method != "POST":
            return _log_in_page("/", status=200)
        session, address = request.session, _address_of(request)
        fields = parse_qs((await request.body()).decode(errors="replace"))
        back, token = _local(fields.get("next", ["/"])[0]), fields.get("token", [""])[0].strip()
        if not self._limiter.test(EACH, address):
            return _log_in_page(back, "Too many wrong attempts; wait 60 s.", 429)
        if not _is_same(token, self._token) or not self._token:
            self._limiter.hit(EACH, address)
            log.warning("A log-in failed, from %s", address, extra={"action": "refuse_log_in"})
            return _log_in_page(back, "This is not the token.")
        _begin(session)
        session["may_leave"] = True
        log.info("session %s at %s logged in", session["name"], address, extra={"action": "log_in"})
        return RedirectResponse(back, 303)

    async def log_out(self, request: Request) -> Response:
        """End the session."""
        if name := request.session.get("name"):
            log.info("%s logged out", request.state.by, extra={"action": "log_out"})
            self._ended.add(name)
            request.session.clear()
        return RedirectResponse("/", 303)


def _begin(session: dict[str, Any]) -> None:
    """Start a session; the answer sets its cookie."""
    session.update(name=secrets.token_hex(8), csrf=secrets.token_hex(32))


def _address_of(request: Request) -> str:
    return request.client.host if request.client else "?"


def _not_from_here(request: Request) -> Response | None:
    """Refuse what is not from a page of this origin, and an order without the CSRF token of its page."""
    origin = ""
    with suppress(ValueError):  # it is not a URL
        origin = urlsplit(request.headers.get("Origin", "")).netloc.lower()
    remedy = "Reload the page; a proxy must pass on its Host. A program sends web.token: `Authorization: Bearer TOKEN`."
    if origin != request.headers["Host"].lower():
        why = "The request comes from a page of another origin, or does not name its origin."
        return refused(request, 403, why, remedy)
    csrf_token = request.session.get("csrf")
    if request.url.path in {"/login", "/logout"} or (
        csrf_token and _is_same(request.headers.get("X-CSRF-Token", ""), csrf_token)
    ):
        return None
    return refused(request, 403, "The session is over, or X-CSRF-Token is not that of its page.", remedy)


def _log_in_page(back: str, why: str = "", status: int = 401) -> Response:
    """Return the page that asks for the token, at any URL; after the log-in the browser goes to `back`."""
    # A URL must not be made visible like other texts, because that would change it.
    return HTMLResponse(render("login.html", why=why, next=escape(back)), status)


def _local(path: str) -> str:
    """Return the path for the redirect: one of this server, whatever the form contains."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else "/"


def says_token(authorization: str | None, token: str) -> bool:
    """Return whether this `Authorization` header contains the token; takes constant time."""
    scheme, _, text = (authorization or "").partition(" ")
    return _is_same(text.strip(), token) and scheme.lower() == "bearer"


def _is_same(text: str, secret: str) -> bool:
    return hmac.compare_digest(text.encode("utf-8", "surrogateescape"), secret.encode())


def is_loopback(host: str) -> bool:
    """Return whether `host`, a name or an IP address, means only this host."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _normal(host: str) -> str:
    address = _address(host.strip("[]"))
    return host.lower() if address is None else str(address)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return `host` as an address, as IPv4 if it is mapped into IPv6; None if it is a name."""
    with suppress(ValueError):
        address = ip_address(host.partition("%")[0])
        return getattr(address, "ipv4_mapped", None) or address
    return None
