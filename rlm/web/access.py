"""Who may ask: the token, and the hosts that a request may name in `Host`."""

from __future__ import annotations

import hmac
import re
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse

from rlm.core.errors import ConfigurationError
from rlm.settings.secrets import resolve_token
from rlm.settings.values import check_token_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

_SCHEME = "bearer"
#: A name or IPv4 address, or an IPv6 address in brackets; then perhaps a port.
_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(:\d{1,5})?|\[(?P<ipv6>[0-9A-Fa-f:.]+)\](:\d{1,5})?")


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
            answer = _refusal("the request must have one Host header", 400)
        elif not self._knows(host, scope["server"][0] if scope.get("server") else ""):
            answer = _refusal("this host is not listed in web.hosts", 421)
        await answer(scope, receive, send)

    def _knows(self, host: str, arrived_at: str) -> bool:
        return is_loopback(host) or host in self._listed or host == _normal(arrived_at)


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


def _refusal(problem: str, status: int) -> PlainTextResponse:
    return PlainTextResponse(f"{problem}\n", status, {"Connection": "close"})
