"""Which hosts a request may name in `Host`: else a web page could read what is served here, by DNS rebinding.

Its own name is made to lead to this address, and the browser then takes us for the page's own server; only `Host` shows
it. Starlette's TrustedHostMiddleware compares with names alone: it knows neither 127.0.0.0/8 nor the address at which a
request arrived.
"""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Receive, Scope, Send

#: A name or IPv4 address, or an IPv6 address in brackets; then perhaps a port.
_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(:\d{1,5})?|\[(?P<ipv6>[0-9A-Fa-f:.]+)\](:\d{1,5})?")


class KnownHosts:
    """Refuses a request whose `Host` is missing or doubled (400), or names none of those below (421).

    Allowed are localhost and the loopback addresses, `listed` names and addresses, and the address at which the request
    arrived: a browser sends that only for a page that was loaded from it.
    """

    def __init__(self, app: ASGIApp, listed: Iterable[str]) -> None:
        self._app = app
        self._listed = frozenset(map(_plain, listed))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        said = [value for name, value in scope["headers"] if name == b"host"]
        host = parse_host(said[0].decode("latin-1")) if len(said) == 1 else None
        if host is None:
            await _refuse("the request must have one Host header", 400)(scope, receive, send)
        elif not self._knows(host, scope["server"][0] if scope.get("server") else ""):
            await _refuse("this host is not listed in web.hosts", 421)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _knows(self, host: str, arrived_at: str) -> bool:
        return is_loopback_host(host) or host in self._listed or host == _plain(arrived_at)


def parse_host(said: str) -> str | None:
    """Return the host that a `Host` header names, in one spelling and without port or brackets; None if it is none."""
    found = _HOST.fullmatch(said)
    if not found:
        return None
    return _plain(found["name"] or found["ipv6"])


def is_loopback_host(host: str) -> bool:
    """Return whether `host`, as `parse_host` returns it, leads nowhere but to this host."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _plain(host: str) -> str:
    address = _address(host.strip("[]"))
    return host.lower() if address is None else str(address)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that `host` is, the IPv4 one if it is written as IPv6; None if it is a name."""
    with suppress(ValueError):
        address = ip_address(host.partition("%")[0])
        return getattr(address, "ipv4_mapped", None) or address
    return None


def _refuse(problem: str, status: int) -> PlainTextResponse:
    return PlainTextResponse(f"{problem}\n", status, {"Cache-Control": "no-store", "Connection": "close"})
