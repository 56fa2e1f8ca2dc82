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
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from markupsafe import escape
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlm.web.answers import read_body, refused, wants_page
from rlm.web.pages.page import render

#: A session ends so long after it began, seconds.
SESSION_SECONDS: Final = 7 * 86_400
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "same-origin",  # with `no-referrer`, browsers send forms with `Origin: null`
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: Most wrong attempts to log in from one address; beyond that even the right token is refused.
EACH: Final = parse("5/minute")

log = logging.getLogger(__name__)


class Visit(NamedTuple):
    """Who makes one request, and what it may do.

    `session`: what its cookie contains, empty without one. `has_token`: it sent the token. `is_open`: no token is
    configured, so a page starts a session without a log-in.
    """

    session: dict[str, Any]
    address: str
    has_token: bool
    is_open: bool

    def begin(self) -> None:
        """Start a session; the answer sets its cookie."""
        self.session.update(name=secrets.token_hex(8), csrf=secrets.token_hex(32))

    @property
    def may_read(self) -> bool:
        """Whether it sent the token, has a session, or needs neither."""
        return self.has_token or self.is_open or bool(self.session)

    @property
    def may_write(self) -> bool:
        """Whether its pages have buttons."""
        return self.is_open or bool(self.session)

    @property
    def csrf_token(self) -> str:
        """The CSRF token of a page, which its script sends back; empty for a program.

        Without a configured token this starts the session of a new visitor.
        """
        if not self.session and self.is_open:
            self.begin()
        return str(self.session.get("csrf", ""))

    @property
    def by(self) -> str:
        """Its name in logs and records: the token or a session, with its address."""
        who = f"session {self.session['name']}" if self.session else "token"
        return f"{who} at {self.address}"


def visit_of(request: Request) -> Visit:
    """Return the visit of a request."""
    visit: Visit = request.state.visit
    return visit


class Access:
    """Determines who makes a request, refuses what it may not do, sets headers; starts and ends sessions.

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
        return [sessions, Middleware(_Around, self._refusal)]

    @property
    def routes(self) -> list[Route]:
        """The routes of the log-in and the log-out."""
        return [Route("/login", self.log_in, methods=["GET", "POST"]), Route("/logout", self.log_out, methods=["POST"])]

    def _refusal(self, request: Request) -> Response | None:
        """Return the refusal of a request; None if it may continue."""
        if not self._is_here(request):
            return PlainTextResponse("this host is not listed in web.hosts\n", 421, {"Connection": "close"})
        path, token, session = request.url.path, self._token, request.session
        has_token = bool(token) and says_token(request.headers.get("Authorization"), token)
        if session.get("name") in self._ended:
            session.clear()
        address = request.client.host if request.client else "?"
        visit = request.state.visit = Visit({} if has_token else session, address, has_token, is_open=not token)
        if request.method in {"GET", "HEAD", "OPTIONS"}:
            if visit.may_read or path in {"/login", "/healthz"} or path.startswith("/static/"):
                return None
            if wants_page(request):
                return _log_in_page(f"{path}?{request.url.query}" if request.url.query else path)
        elif visit.may_read or path == "/login":
            return None if has_token else _not_from_here(request, session.get("csrf", ""))
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
        host = host_in(named[0]) if len(named) == 1 else ""
        return bool(host) and (is_loopback(host) or host in {*self._hosts, _normal(arrived)})

    async def log_in(self, request: Request) -> Response:
        """Ask for the token, or start a session for the right one."""
        if request.method != "POST":
            return _log_in_page("/", status=200)
        visit = visit_of(request)
        fields = parse_qs((await read_body(request)).decode(errors="replace"))
        back, token = _local(fields.get("next", ["/"])[0]), fields.get("token", [""])[0].strip()
        if not self._limiter.test(EACH, visit.address):
            return _log_in_page(back, "Too many wrong attempts; wait 60 s.", 429)
        if not _is_same(token, self._token) or not self._token:
            self._limiter.hit(EACH, visit.address)
            log.warning("A log-in failed, from %s", visit.address, extra={"action": "refuse_log_in"})
            return _log_in_page(back, "This is not the token.")
        visit.begin()
        log.info("%s logged in", visit.by, extra={"action": "log_in"})
        return RedirectResponse(back, 303)

    async def log_out(self, request: Request) -> Response:
        """End the session."""
        visit = visit_of(request)
        if visit.session:
            log.info("%s logged out", visit.by, extra={"action": "log_out"})
            self._ended.add(visit.session["name"])
            visit.session.clear()
        return RedirectResponse("/", 303)


class _Around:
    """Passes a request on to the application unless `refusal` answers it; every answer gets the headers."""

    def __init__(self, app: ASGIApp, refusal: Any) -> None:
        self._app = app
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await (self._refusal(Request(scope)) or self._app)(scope, receive, send_with_headers)


def _not_from_here(request: Request, csrf_token: str) -> Response | None:
    """Refuse an order that is not from a page of this origin; it knows the CSRF token, or is the log-in page."""
    origin = ""
    with suppress(ValueError):  # it is not a URL
        origin = urlsplit(request.headers.get("Origin", "")).netloc.lower()
    if origin != request.headers["Host"].lower():
        why = "The request comes from a page of another origin, or does not name its origin."
        remedy = "Use the page that is served here. A proxy must pass on the Host that the browser names."
        return refused(request, 403, why, remedy)
    if request.url.path == "/login" or (csrf_token and _is_same(request.headers.get("X-CSRF-Token", ""), csrf_token)):
        return None
    remedy = "Reload the page. A program sends `Authorization: Bearer TOKEN`, with the token of web.token."
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


def host_in(value: str) -> str:
    """Return the host in a `Host` header, normalised, without port or brackets; empty if it is invalid."""
    with suppress(ValueError):
        address = urlsplit(f"//{value}")
        if address.netloc == value and "@" not in value and (address.port or 0) >= 0:
            return _normal(address.hostname or "")
    return ""


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
