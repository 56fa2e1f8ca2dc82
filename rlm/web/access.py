"""Who may read and write, by which host names; sessions, the log-in with the token, security headers.

A session is a signed cookie of starlette with a name and a CSRF token. If a token is configured, a log-in starts it; it
survives a restart of `rlm web`, because its key is derived from the token. Without a token, on the loopback interface,
the first page starts it: it grants no access, but only pages loaded from here know its CSRF token.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
from collections.abc import Container, Iterable
from contextlib import suppress
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from markupsafe import escape
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlm.web.answers import read_body, refused, wants_page
from rlm.web.pages.page import alone

LOG_IN: Final = "/login"
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
#: A name, an IPv4 address, or an IPv6 address in brackets; then optionally a port.
_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(:\d{1,5})?|\[(?P<ipv6>[0-9A-Fa-f:.]+)\](:\d{1,5})?")
#: Tells programs how to send the token.
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="rlm"'}
#: Most wrong attempts to log in, from one address and from all; beyond that even the right token is refused.
EACH: Final = parse("5/minute")
ALL: Final = parse("60/minute")
_UNKNOWN, _CSRF = 401, "X-CSRF-Token"

log = logging.getLogger(__name__)


class Visit(NamedTuple):
    """Who makes one request, from which address, and what it may do.

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
        """Whether a page offers buttons."""
        return self.is_open or bool(self.session)

    @property
    def csrf_token(self) -> str:
        """The CSRF token of a page, whose script sends it back as `X-CSRF-Token`; empty for a program.

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
    """Determines who makes a request (`Visit`), refuses what it may not do, sets headers."""

    def __init__(self, app: ASGIApp, token: str, ended: Container[str]) -> None:
        """Accept `token`, and sessions that are not in `ended`."""
        self._app = app
        self._token = token
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on to the application."""
        request = Request(scope)
        visit = request.state.visit = self._visit(request)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")  # unless the answer sets it
            await send(message)

        answer = self._refusal(request, visit) or self._app
        await answer(scope, receive, send_with_headers)

    def _visit(self, request: Request) -> Visit:
        token, address = self._token, request.client.host if request.client else "?"
        has_token = bool(token) and says_token(request.headers.get("Authorization"), token)
        if request.session.get("name") in self._ended:
            request.session.clear()
        return Visit({} if has_token else request.session, address, has_token, is_open=not token)

    def _refusal(self, request: Request, visit: Visit) -> Response | None:
        """Return the refusal of a request; None if it may continue."""
        path, is_log_in, why, remedy = request.url.path, request.url.path == LOG_IN, "", ""
        if request.method in {"GET", "HEAD", "OPTIONS"}:
            if visit.may_read or is_log_in or path == "/healthz" or path.startswith("/static/"):
                return None
            if wants_page(request):
                return log_in_page(request, f"{path}?{request.url.query}" if request.url.query else path)
        elif is_log_in or visit.may_read:
            right = visit.session.get("csrf", "")
            if not visit.has_token and not is_same_origin(request.headers):
                why = "The request comes from a page of another origin, or does not name its origin."
                remedy = "Use the page that is served here. A proxy must pass on the Host that the browser names."
            elif not (visit.has_token or is_log_in or (right and _is_same(request.headers.get(_CSRF, ""), right))):
                why = "The session is over, or X-CSRF-Token is not that of its page."
                remedy = "Reload the page. A program sends `Authorization: Bearer TOKEN`, with the token of web.token."
            return refused(request, 403, why, remedy) if why else None
        remedy = "Send `Authorization: Bearer TOKEN`, with the token of web.token, or log in at /login."
        return refused(request, _UNKNOWN, "The token is missing or wrong.", remedy, _CHALLENGE)


class Cookies:
    """starlette's sessions, whose cookie is `Secure` unless the browser uses plain HTTP to a loopback address.

    The cookie's name depends on the key, because browsers send the cookies of a host to all its ports.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        """Sign with a key derived from `token`; without one with a random key, which a restart changes."""
        key = sha256(f"sessions {token}".encode()).hexdigest() if token else secrets.token_hex()
        name = f"rlm_session_{sha256(key.encode()).hexdigest()[:8]}"
        self._plain, self._secure = (
            SessionMiddleware(app, key, name, SESSION_SECONDS, same_site="strict", https_only=is_secure)
            for is_secure in (False, True)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the session, and set its cookie if it changes."""
        await (self._plain if is_plain(Request(scope)) else self._secure)(scope, receive, send)


class LogIn:
    """Starts and ends sessions."""

    def __init__(self, token: str, ended: set[str]) -> None:
        """Start a session for `token`; add those that log out to `ended`."""
        self._token = token
        self._ended = ended
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    @property
    def routes(self) -> list[Route]:
        """Its routes."""
        return [Route(LOG_IN, self.log_in, methods=["GET", "POST"]), Route("/logout", self.log_out, methods=["POST"])]

    async def log_in(self, request: Request) -> Response:
        """Ask for the token, or start a session for the right one."""
        if request.method != "POST":
            return log_in_page(request, "/", status=200)
        visit = visit_of(request)
        fields = parse_qs((await read_body(request)).decode(errors="replace"))
        back, token = _local(fields.get("next", ["/"])[0]), fields.get("token", [""])[0].strip()
        if not (is_plain(request) or request.headers.get("Origin", "").startswith("https:")):
            why = "Over plain HTTP others could read the token. Use https through a proxy, or a tunnel to this host."
            return log_in_page(request, back, why, 403)
        if not (self._limiter.test(EACH, visit.address) and self._limiter.test(ALL, "all")):
            answer = log_in_page(request, back, "Too many wrong attempts; wait 60 s.", 429)
            answer.headers["Retry-After"] = "60"
            return answer
        if not _is_same(token, self._token) or not self._token:
            self._limiter.hit(EACH, visit.address)
            self._limiter.hit(ALL, "all")
            log.warning("A log-in failed, from %s", visit.address, extra={"action": "refuse_log_in"})
            return log_in_page(request, back, "This is not the token.")
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


def log_in_page(request: Request, back: str, why: str = "", status: int = _UNKNOWN) -> Response:
    """Return the page that asks for the token, at any URL; after the log-in the browser goes to `back`."""
    # A URL must not be made visible like other texts, because that would change it.
    html = alone("login.html", why=why, next=escape(back), is_local=is_plain(request))
    return HTMLResponse(html, status, _CHALLENGE if status == _UNKNOWN else None)


def _local(path: str) -> str:
    """Return the path for the redirect: one of this server, whatever the form contains."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else "/"


def says_token(authorization: str | None, token: str) -> bool:
    """Return whether this `Authorization` header contains the token; takes constant time."""
    scheme, _, text = (authorization or "").partition(" ")
    return _is_same(text.strip(), token) and scheme.lower() == "bearer"


def _is_same(text: str, secret: str) -> bool:
    return hmac.compare_digest(text.encode("utf-8", "surrogateescape"), secret.encode())


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
        closed = {"Connection": "close", "Cache-Control": "no-store"}
        answer = self._app
        if host is None:
            answer = PlainTextResponse("the request must have one Host header\n", 400, closed)
        elif not (is_loopback(host) or host in self._listed or host == _normal((scope.get("server") or ("",))[0])):
            answer = PlainTextResponse("this host is not listed in web.hosts\n", 421, closed)
        await answer(scope, receive, send)


def is_loopback(host: str) -> bool:
    """Return whether `host`, a name or an IP address, means only this host."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def parse_host(value: str) -> str | None:
    """Return the host in a `Host` header, normalised, without port or brackets; None if it is invalid."""
    match = _HOST.fullmatch(value)
    return _normal(match["name"] or match["ipv6"]) if match else None


def _normal(host: str) -> str:
    address = _address(host.strip("[]"))
    return host.lower() if address is None else str(address)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return `host` as an address, as IPv4 if it is mapped into IPv6; None if it is a name."""
    with suppress(ValueError):
        address = ip_address(host.partition("%")[0])
        return getattr(address, "ipv4_mapped", None) or address
    return None
