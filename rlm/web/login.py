"""Logging in with the token and out again; few wrong attempts at a time."""

from __future__ import annotations

import hmac
import logging
from typing import Final
from urllib.parse import parse_qs

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from markupsafe import escape
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from rlm.core.clock import system_clock
from rlm.telemetry.logs import Bounded
from rlm.web.access import LOG_IN, is_plain
from rlm.web.pages.page import alone
from rlm.web.parameters import read_body
from rlm.web.session import visit_of

#: Wrong attempts from one address, and from all together; a right token is not looked at beyond that either.
EACH: Final = parse("5/minute")
ALL: Final = parse("60/minute")
_WAIT_SECONDS = 60
_UNKNOWN = 401

log = logging.getLogger(__name__)


def ask_token(request: Request) -> Response:
    """Return the page that asks for the token, at whatever URL; after the log-in the browser comes back to it."""
    url = request.url
    return _page(f"{url.path}?{url.query}" if url.query else url.path)


def _page(back: str, told: str = "", status: int = _UNKNOWN) -> Response:
    headers = {"WWW-Authenticate": 'Bearer realm="rlm"'} if status == _UNKNOWN else {}
    # An address is not made visible as other texts are: it would be another one.
    return HTMLResponse(alone("login.html", told=told, next=escape(back)), status, headers)


class LogIn:
    """Begins and ends sessions."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._bounded = Bounded(_WAIT_SECONDS, system_clock)

    @property
    def routes(self) -> list[Route]:
        """What it serves."""
        return [Route(LOG_IN, self.log_in, methods=["GET", "POST"]), Route("/logout", self.log_out, methods=["POST"])]

    async def log_in(self, request: Request) -> Response:
        """Ask for the token, or begin a session for the right one."""
        if request.method != "POST":
            return _page("/", status=200)
        visit = visit_of(request)
        fields = parse_qs((await read_body(request)).decode(errors="replace"))
        back, said = _local(fields.get("next", ["/"])[0]), fields.get("token", [""])[0].strip()
        if not (is_plain(request) or request.headers.get("Origin", "").startswith("https:")):
            told = "Over plain HTTP others could read the token. Use https, by a proxy, or a tunnel to this host."
            return _page(back, told, 403)
        if not self._may_try(visit.address):
            if self._bounded.admit("too many") is not None:
                log.warning("Too many log-ins fail, the last from %s", visit.address, extra={"action": "refuse_log_in"})
            answer = _page(back, f"Too many wrong attempts; wait {_WAIT_SECONDS} s.", 429)
            answer.headers["Retry-After"] = str(_WAIT_SECONDS)
            return answer
        if not hmac.compare_digest(said.encode(errors="replace"), self._token) or not self._token:
            self._limiter.hit(EACH, visit.address)
            self._limiter.hit(ALL, "all")
            log.warning("A log-in failed, from %s", visit.address, extra={"action": "refuse_log_in"})
            return _page(back, "That is not the token.")
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
    """Return where the browser goes then: a path of this server, whatever the form said."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else "/"
