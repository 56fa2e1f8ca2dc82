"""Who may read and write, by which host names; logging in with the token and out; security headers."""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import parse_qs, urlsplit

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from markupsafe import escape
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlm.core.clock import system_clock
from rlm.telemetry.logs import Bounded
from rlm.web.pages.page import alone
from rlm.web.parameters import read_body, refused
from rlm.web.session import IDLE_SECONDS, VISIT, Sessions, Visit, WebSession, visit_of

#: The paths that everybody who reaches the port may read.
OPEN: Final = ("/healthz", "/login", "/static/")
LOG_IN: Final = "/login"
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
#: Prefix of the cookie's name. The port follows, because browsers send a host's cookies to all its ports.
COOKIE: Final = "rlm_session"
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "same-origin",  # with `no-referrer`, browsers send forms with `Origin: null`
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: A name, an IPv4 address, or an IPv6 address in brackets; then optionally a port.
_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(:\d{1,5})?|\[(?P<ipv6>[0-9A-Fa-f:.]+)\](:\d{1,5})?")
_CLOSED = {"Connection": "close", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
#: Tells programs how to send the token.
_ASKED = {"WWW-Authenticate": 'Bearer realm="rlm"'}
#: Most wrong attempts to log in, from one address and from all; beyond that even the right token is refused.
EACH: Final = parse("5/minute")
ALL: Final = parse("60/minute")
_WAIT_SECONDS = 60
_UNKNOWN = 401

log = logging.getLogger(__name__)


class Access:
    """Determines who makes a request (`Visit`), refuses what it may not do, sets headers and cookie."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token
        self._sessions = Sessions(token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on to the application."""
        request = Request(scope)
        visit = scope[VISIT] = self._visit(request)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")  # unless the answer sets it
                if visit.to_set is not None:
                    headers.append("Set-Cookie", self._cookie(request, visit.to_set))
            await send(message)

        answer = self._refusal(request, visit) or self._app
        await answer(scope, receive, send_with_headers)

    def _visit(self, request: Request) -> Visit:
        token, address = self._token, request.client.host if request.client else "?"
        has_token = bool(token) and says_token(request.headers.get("Authorization"), token)
        visit = Visit(self._sessions, address, has_token, is_open=not token)
        if not has_token and (session := self._sessions.read(request.cookies.get(cookie_name(request), ""))):
            visit.session = session
            renewed = self._sessions.renewed(session)
            if renewed.until - session.until > IDLE_SECONDS / 2:
                visit.to_set = renewed
        return visit

    def _cookie(self, request: Request, session: WebSession) -> str:
        """Return the header that sets the session's cookie, or deletes it if the session has ended."""
        value, age = ("", 0) if self._sessions.has_ended(session) else (self._sessions.cookie(session), IDLE_SECONDS)
        secure = "" if is_plain(request) else "; Secure"
        return f"{cookie_name(request)}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}"

    def _refusal(self, request: Request, visit: Visit) -> Response | None:
        """Return the refusal of a request; None if it may continue."""
        path = request.url.path
        if request.method not in _READS:
            return self._write_refusal(request, visit)
        if path in OPEN or path.startswith(OPEN[-1]) or visit.may_read:
            return None
        if "text/html" in request.headers.get("Accept", "") and not path.startswith("/api/"):
            return ask_token(request)
        return _refused_unknown(request)

    def _write_refusal(self, request: Request, visit: Visit) -> Response | None:
        is_log_in = request.url.path == LOG_IN
        if not (is_log_in or visit.may_read):
            return _refused_unknown(request)
        if visit.has_token:
            return None
        if not is_same_origin(request.headers):
            why = "The request comes from a page of another origin, or does not name its origin."
            remedy = "Use the page that is served here. A proxy must pass on the Host that the browser names."
            return refused(request, 403, why, remedy)
        return None if is_log_in else self._csrf_refusal(request, visit)

    def _csrf_refusal(self, request: Request, visit: Visit) -> Response | None:
        said = request.headers.get("X-CSRF-Token", "").encode()
        right = self._sessions.csrf(visit.session).encode() if visit.session else b""
        if not right or not hmac.compare_digest(said, right):
            remedy = "Reload the page. A program sends `Authorization: Bearer TOKEN`, with the token of web.token."
            return refused(request, 403, "The session is over, or X-CSRF-Token is not that of its page.", remedy)
        return None


def cookie_name(request: Request) -> str:
    """Return the name of this `rlm web`'s cookie, so that two on one host share no session."""
    _, port = request.scope.get("server") or ("", None)
    return f"{COOKIE}_{port}" if port else COOKIE


def says_token(authorization: str | None, token: str) -> bool:
    """Return whether this `Authorization` header contains the token; takes constant time."""
    scheme, _, said = (authorization or "").partition(" ")
    right = hmac.compare_digest(said.strip().encode("utf-8", "surrogateescape"), token.encode())
    return right and scheme.lower() == "bearer"


def is_same_origin(headers: Headers) -> bool:
    """Return whether the browser says that a page of this origin sends the request.

    It says so in `Origin`, and newer browsers in `Sec-Fetch-Site` on a secure connection. One of both must be there.
    """
    site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
    if site not in {None, "same-origin"} or (site is None and origin is None):
        return False
    try:
        return origin is None or urlsplit(origin).netloc.lower() == headers.get("Host", "").lower()
    except ValueError:  # it is not a URL
        return False


def is_plain(request: Request) -> bool:
    """Return whether the browser uses plain HTTP to a loopback address: only there a cookie need not be `Secure`.

    RLM itself speaks no TLS. A TLS proxy in front shows in `Origin`, or by another name in `Host`.
    """
    host = parse_host(request.headers.get("Host", "")) or ""
    return is_loopback(host) and not request.headers.get("Origin", "").startswith("https:")


def _refused_unknown(request: Request) -> Response:
    remedy = "Send `Authorization: Bearer TOKEN`, with the token of web.token, or log in at /login."
    return refused(request, _UNKNOWN, "The token is missing or wrong.", remedy, _ASKED)


def ask_token(request: Request) -> Response:
    """Return the page that asks for the token, at any URL; after the log-in the browser returns to that URL."""
    url = request.url
    return _page(request, f"{url.path}?{url.query}" if url.query else url.path)


def _page(request: Request, back: str, told: str = "", status: int = _UNKNOWN) -> Response:
    # A URL must not be made visible like other texts, because that would change it.
    html = alone("login.html", told=told, next=escape(back), is_local=is_plain(request))
    return HTMLResponse(html, status, _ASKED if status == _UNKNOWN else None)


class LogIn:
    """Starts and ends sessions."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._bounded = Bounded(_WAIT_SECONDS, system_clock)

    @property
    def routes(self) -> list[Route]:
        """Its routes."""
        return [Route(LOG_IN, self.log_in, methods=["GET", "POST"]), Route("/logout", self.log_out, methods=["POST"])]

    async def log_in(self, request: Request) -> Response:
        """Ask for the token, or start a session for the right one."""
        if request.method != "POST":
            return _page(request, "/", status=200)
        visit = visit_of(request)
        fields = parse_qs((await read_body(request)).decode(errors="replace"))
        back, said = _local(fields.get("next", ["/"])[0]), fields.get("token", [""])[0].strip()
        if not (is_plain(request) or request.headers.get("Origin", "").startswith("https:")):
            told = "Over plain HTTP others could read the token. Use https through a proxy, or a tunnel to this host."
            return _page(request, back, told, 403)
        if not self._may_try(visit.address):
            if self._bounded.admit("too many") is not None:
                log.warning("Too many log-ins fail, the last from %s", visit.address, extra={"action": "refuse_log_in"})
            answer = _page(request, back, f"Too many wrong attempts; wait {_WAIT_SECONDS} s.", 429)
            answer.headers["Retry-After"] = str(_WAIT_SECONDS)
            return answer
        if not hmac.compare_digest(said.encode(errors="replace"), self._token) or not self._token:
            self._limiter.hit(EACH, visit.address)
            self._limiter.hit(ALL, "all")
            log.warning("A log-in failed, from %s", visit.address, extra={"action": "refuse_log_in"})
            return _page(request, back, "This is not the token.")
        visit.session = visit.to_set = visit.sessions.begin()
        log.info("%s logged in", visit.by, extra={"action": "log_in"})
        return RedirectResponse(back, 303)

    async def log_out(self, request: Request) -> Response:
        """End the session."""
        visit = visit_of(request)
        if visit.session is not None:
            log.info("%s logged out", visit.by, extra={"action": "log_out"})
            visit.end()
        return RedirectResponse("/", 303)

    def _may_try(self, address: str) -> bool:
        return self._limiter.test(EACH, address) and self._limiter.test(ALL, "all")


def _local(path: str) -> str:
    """Return the path for the redirect: one of this server, whatever the form contains."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else "/"


class KnownHosts:
    """Refuses a request whose `Host` is missing or doubled (400), or not allowed (421).

    Otherwise a web page could read this server by DNS rebinding: its name is made to resolve to this address, which
    only `Host` reveals. Allowed are localhost, the loopback addresses, `listed` names and addresses, and the address at
    which the request arrived: a browser sends that address only for a page loaded from it.
    """

    def __init__(self, app: ASGIApp, listed: Iterable[str]) -> None:
        self._app = app
        self._listed = frozenset(map(_normal, listed))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on to the application."""
        values = [value for name, value in scope["headers"] if name == b"host"]
        host = parse_host(values[0].decode("latin-1")) if len(values) == 1 else None
        answer = self._app
        if host is None:
            answer = PlainTextResponse("the request must have one Host header\n", 400, _CLOSED)
        elif not (is_loopback(host) or host in self._listed or host == _normal((scope.get("server") or ("",))[0])):
            answer = PlainTextResponse("this host is not listed in web.hosts\n", 421, _CLOSED)
        await answer(scope, receive, send)


def is_loopback(host: str) -> bool:
    """Return whether `host`, a name or an IP address, means only this host."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def parse_host(value: str) -> str | None:
    """Return the host in a `Host` header, normalised, without port or brackets; None if it is invalid."""
    found = _HOST.fullmatch(value)
    return _normal(found["name"] or found["ipv6"]) if found else None


def _normal(host: str) -> str:
    address = _address(host.strip("[]"))
    return host.lower() if address is None else str(address)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return `host` as an address, as IPv4 if it is mapped into IPv6; None if it is a name."""
    with suppress(ValueError):
        address = ip_address(host.partition("%")[0])
        return getattr(address, "ipv4_mapped", None) or address
    return None
