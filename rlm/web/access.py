"""Who may ask: the token, the loopback interface, and the hosts that a request may name in `Host`."""

from __future__ import annotations

import hmac
import re
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse

from rlm.core.errors import ConfigurationError
from rlm.settings import resolve_token
from rlm.settings.values import check_token_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send


_SCHEME = "bearer"


def read_token(configured: str, environ: Mapping[str, str]) -> str:
    """Return the token of the setting `web.token`, empty where there is none.

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


def is_loopback(address: str) -> bool:
    """Tell whether only this host can reach a socket bound to `address`, an IP address."""
    return ip_address(address.partition("%")[0]).is_loopback


def allowed(authorization: str | None, token: str) -> bool:
    """Tell whether a request with this `Authorization` header may read, in a time that does not depend on what it says.

    Without a `token` everybody may.
    """
    scheme, _, said = (authorization or "").partition(" ")
    right = hmac.compare_digest(said.strip().encode("utf-8", "surrogateescape"), token.encode())
    return not token or (right and scheme.lower() == _SCHEME)


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
