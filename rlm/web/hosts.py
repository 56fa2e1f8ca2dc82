"""Which hosts a request may name in `Host`, and which addresses lead to this host only."""

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
_CLOSED = {"Connection": "close", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


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
        host = parse_host(values[0].decode("latin-1")) if len(values) == 1 else None
        answer = self._app
        if host is None:
            answer = PlainTextResponse("the request must have one Host header\n", 400, _CLOSED)
        elif not (is_loopback(host) or host in self._listed or host == _normal((scope.get("server") or ("",))[0])):
            answer = PlainTextResponse("this host is not listed in web.hosts\n", 421, _CLOSED)
        await answer(scope, receive, send)


def is_loopback(host: str) -> bool:
    """Return whether `host`, a name or an IP address, leads to this host only."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def parse_host(value: str) -> str | None:
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
