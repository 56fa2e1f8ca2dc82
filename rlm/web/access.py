"""Who may listen where, and who may read what: the token, and the loopback interface."""

from __future__ import annotations

import hmac
from ipaddress import ip_address
from typing import TYPE_CHECKING

from rlm.core.errors import ConfigurationError
from rlm.settings import resolve_token
from rlm.settings.values import check_token_text

if TYPE_CHECKING:
    from collections.abc import Mapping

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
