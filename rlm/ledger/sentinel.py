"""A URL that names sentinels: who is asked for which service, and how they and the primary are spoken to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

SENTINEL_PORT = 26379
#: By which a URL names sentinels; with the second one sentinels and primary are spoken to by TLS.
SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


class SentinelURL(msgspec.Struct, frozen=True):
    """What a URL of sentinels says: who is asked for which service, and how they and the primary are spoken to."""

    scheme: str
    sentinels: tuple[Address, ...]
    service: str
    asking: Mapping[str, Any]
    connecting: Mapping[str, Any]
    asked_by_tls: bool

    @property
    def by_tls(self) -> bool:
        """Whether the primary is spoken to by TLS."""
        return self.scheme == SENTINEL_SCHEMES[1]

    @classmethod
    def read(cls, url: str) -> SentinelURL:
        """Read it.

        Raises:
            ValueError: it is none.
        """
        parts = urlsplit(url)
        service, _, db = parts.path.strip("/").partition("/")
        if not service:
            raise ValueError("a service is missing")
        sentinels = tuple(_address(place) for place in parts.netloc.rpartition("@")[2].split(","))
        options = dict(parse_qsl(parts.query))
        both = {name: value for name, value in options.items() if name.startswith("ssl_")}
        tls = parts.scheme == SENTINEL_SCHEMES[1]
        asked_by_tls = options.get("sentinel_tls", "yes" if tls else "no") == "yes"
        login = {"username": parts.username, "password": parts.password}
        connecting: dict[str, Any] = {name: unquote(value) for name, value in login.items() if value}
        for name in ("socket_timeout", "socket_connect_timeout"):
            if name in options:
                connecting[name] = float(options[name])
        asking = {
            name: options[f"sentinel_{name}"] for name in ("username", "password") if f"sentinel_{name}" in options
        }
        return cls(
            parts.scheme,
            sentinels,
            unquote(service),
            asking | (both if asked_by_tls else {}),
            connecting | (both if tls else {}) | {"db": int(db or 0)},
            asked_by_tls,
        )

    @property
    def shown(self) -> str:
        """The sentinels and the service, without any login."""
        return f"{self.scheme}://{','.join(f'{host}:{port}' for host, port in self.sentinels)}/{self.service}"


def _address(place: str) -> Address:
    parts = urlsplit(f"//{place}")
    if not parts.hostname:
        raise ValueError("a host is missing")
    return Address(parts.hostname, parts.port or SENTINEL_PORT)
