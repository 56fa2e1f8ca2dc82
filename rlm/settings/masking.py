"""What may be shown of a secret, and the one place where a header's secret is read."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from rlm.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rlm.endpoint import Endpoint

MASK = "***"
#: How a header value says that it stands in the environment.
FROM_ENVIRONMENT = "env:"

_SECRET_NAME = re.compile(r"pass|pwd|secret|token|key|auth|dsn|credential|signature|^sig$|cookie", re.IGNORECASE)
#: An HTTP URL whose authority is a host and no more: an "@" further on belongs to its path.
_PLAIN_HTTP = re.compile(r"https?://(\[[0-9a-f:.]+\]|[^/?#@:\[\]]+)(:\d+)?([/?#].*)?", re.IGNORECASE | re.DOTALL)
#: Up to the *last* "@", because a password that was not percent-encoded may hold "/", "?" and "@" as well.
_USERINFO = re.compile(r"\A(?P<start>(?:[a-z][a-z0-9+.-]*://)?)(?P<user>[^:@/?#]*:)?.*@", re.IGNORECASE | re.DOTALL)
#: What stands between the marks of a URL, of which the first `?` and each `&` begin a parameter.
_PARAMETER = re.compile(r"(?P<mark>\A|[&#])(?P<text>[^&#]+)")
_WORD = re.compile(r"\S+")


class Headers(dict[str, str]):
    """Configured headers whose representation shows `env:NAME` and masks every other value."""

    def __repr__(self) -> str:
        return repr({name: mask_header(value) for name, value in self.items()})


def mask_url(url: str) -> str:
    """Return `url` without its password and without the values of parameters that look like secrets.

    The user before a password stays, a user without one may be a key and goes. Any text is accepted, a malformed URL
    is masked where it could hold a password.
    """
    if not _PLAIN_HTTP.fullmatch(url):
        url = _USERINFO.sub(lambda found: f"{found['start']}{found['user'] or ''}{MASK}@", url, count=1)
    return _PARAMETER.sub(_mask_parameter, url)


def _mask_parameter(found: re.Match[str]) -> str:
    before, text = "", found["text"]
    if found["mark"] != "&" or text.startswith("="):
        before, question, text = text.partition("?")
        before += question
    name, equals, value = text.partition("=")
    hidden = name and value and is_secret(name)
    return f"{found['mark']}{before}{name}{equals}{MASK if hidden else value}"


def mask_urls(text: str) -> str:
    """Return a text with each address in it as `mask_url` has it."""
    return _WORD.sub(lambda found: mask_url(found[0]) if "://" in found[0] else found[0], text)


def mask_header(value: str) -> str:
    """Return what may be shown of a header's configured value: the name of a variable, nothing of a literal."""
    return value if value.startswith(FROM_ENVIRONMENT) else MASK


def mask_value(path: tuple[str | int, ...], value: Any) -> Any:
    """Return what may be shown of the setting at `path`."""
    key = str(path[-1])
    if "headers" in path[2:]:
        return mask_header(value) if isinstance(value, str) else value and MASK
    if is_secret(key):
        return mask_header(value) if value and isinstance(value, str) else value and MASK
    if isinstance(value, str) and (key == "url" or "://" in value):
        return mask_url(value)
    return value


def is_secret(name: str) -> bool:
    """Tell whether a setting, parameter or variable of that name, percent-encoded or not, likely holds a secret."""
    return _SECRET_NAME.search(unquote(name)) is not None


def resolve_headers(endpoint: Endpoint, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the headers to send to `endpoint`, each `env:NAME` replaced by the value of that variable.

    The values are secrets: send them and keep them nowhere.

    Raises:
        ConfigurationError: a variable is not set; the message names endpoint, header and variable.
    """
    return {name: _resolved(endpoint, name, value, environ) for name, value in endpoint.headers.items()}


def resolve_token(token: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the token that `web.token` names, empty where there is none. It is a secret.

    Raises:
        ConfigurationError: the variable it names is not set; the message names it.
    """
    if not token.startswith(FROM_ENVIRONMENT):
        return token
    variable = token.removeprefix(FROM_ENVIRONMENT)
    if not environ.get(variable):
        raise ConfigurationError(f"web.token: the environment variable {variable} is not set or empty; set it")
    return environ[variable]


def _resolved(endpoint: Endpoint, header: str, value: str, environ: Mapping[str, str]) -> str:
    if not value.startswith(FROM_ENVIRONMENT):
        return value
    variable = value.removeprefix(FROM_ENVIRONMENT)
    if not environ.get(variable):
        raise ConfigurationError(
            f"endpoint {endpoint.name!r}, header {header!r}: the environment variable {variable} is not set; set it"
        )
    return environ[variable]
