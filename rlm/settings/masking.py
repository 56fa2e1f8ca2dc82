"""What may be shown of a secret, and the one place where a header's secret is read."""

from __future__ import annotations

import os
import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from rlm.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rlm.core.endpoint import Endpoint

MASK = "***"
#: How a header value says that it stands in the environment.
FROM_ENVIRONMENT = "env:"

_SECRET_NAME = re.compile(r"pass|pwd|secret|token|key|auth|dsn|credential|signature|^sig$|cookie", re.IGNORECASE)
#: An HTTP URL whose authority is a host and no more: an "@" further on belongs to its path.
_PLAIN_HTTP = re.compile(r"https?://(\[[0-9a-f:.]+\]|[^/?#@:\[\]]+)(:\d+)?([/?#].*)?", re.IGNORECASE | re.DOTALL)
#: Up to the *last* "@", because a password that was not percent-encoded may hold "/", "?" and "@" as well.
_USERINFO = re.compile(r"(?P<start>(?:[a-z][a-z0-9+.-]*://)?)(?P<user>[^:@/?#]*:)?.*@", re.IGNORECASE | re.DOTALL)
_PARAMETER = re.compile(r"(?P<start>[?&](?P<name>[^=&#?]+)=)(?P<value>[^&#]+)")
#: An HTTP URL up to its path, and its path.
_HTTP_PATH = re.compile(r"(?P<start>https?://[^/?#]*)(?P<path>/[^?#]*)", re.IGNORECASE)
#: A piece of a path that is made of words and small numbers: `v1`, `rebalance_api`, `sendMessage`, `20231114`. All
#: else may be a key, as the last pieces of a webhook are.
_WORD = r"(?:(?:[a-z]{1,20}|[A-Z][a-z]{1,19})(?:[A-Z][a-z]{2,19}){0,3}[0-9]{0,2}|[A-Z]{1,7}|[0-9]{1,8})"
_PLAIN_PIECE = re.compile(rf"(?=.{{0,60}}\Z){_WORD}?(?:[._-]{_WORD}){{0,6}}", re.DOTALL)
#: Words, one of which may be an address; and the punctuation that may stand behind that.
_WORDS = re.compile(r"\S+")
_BEHIND = ")]}>'\",.:;"

#: The value of `redis.url` that is no URL, and how like it a value is that was meant to be it.
EMBEDDED = "embedded"
_NEARLY = 0.7
#: A host and a port, where a URL belongs.
_HOST = re.compile(
    r"(?P<start>(?:[a-z0-9-]{1,40}\.)+[a-z]{2,10}(?::\d{1,5})?|[a-z-]{1,20}:\d{1,5}|(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?)"
    r"(?P<path>(?:/[^?#@]*)?)"
)
#: A number that is as small as those of settings, or a truth value; longer ones may be a key.
_NUMBER = re.compile(r"-?\d{1,5}(?:\.\d{1,5})?|true|false", re.IGNORECASE)


class Headers(dict[str, str]):
    """Configured headers whose representation shows `env:NAME` and masks every other value."""

    def __repr__(self) -> str:
        return repr({name: mask_header(value) for name, value in self.items()})


def mask_url(url: str) -> str:
    """Return `url` without its password and without what looks like a secret in its path and its parameters.

    Scheme, host and port stay. The user before a password stays, a user without one may be a key and goes. Of an HTTP
    URL's path the pieces stay that are words or small numbers, of its parameters the values that are; of others go the
    values of parameters with the name of a secret. Any text is accepted, a malformed URL is masked where it could hold
    a password.
    """
    if "@" in url and not _PLAIN_HTTP.fullmatch(url):
        url = _USERINFO.sub(lambda found: f"{found['start']}{found['user'] or ''}{MASK}@", url, count=1)
    url = _HTTP_PATH.sub(_masked_path, url, count=1)
    return _PARAMETER.sub(lambda found: found["start"] + MASK if _hides(url, found) else found[0], url)


def _masked_path(found: re.Match[str]) -> str:
    pieces = found["path"].split("/")
    return found["start"] + "/".join(piece if is_plain(piece) else MASK for piece in pieces)


def _hides(url: str, parameter: re.Match[str]) -> bool:
    """Return whether a parameter of a URL may hold a secret."""
    plain = is_plain(parameter["value"]) or not url.lower().startswith("http")
    return is_secret(parameter["name"]) or not plain


def url_secrets(url: str) -> Iterator[str]:
    """Return what `mask_url` masks in a URL, as it stands there."""
    address = url
    if "@" in url and not _PLAIN_HTTP.fullmatch(url) and (userinfo := _USERINFO.match(url)):
        hidden = userinfo[0].removeprefix(userinfo["start"] + (userinfo["user"] or "")).removesuffix("@")
        yield hidden
        address = userinfo["start"] + url[userinfo.end() :]
    if path := _HTTP_PATH.match(address):
        yield from (piece for piece in path["path"].split("/") if not is_plain(piece))
    yield from (found["value"] for found in _PARAMETER.finditer(address) if _hides(address, found))


def mask_urls(text: str) -> str:
    """Return a text with each address in it as `mask_url` has it."""
    return _WORDS.sub(lambda found: _masked_word(found[0]) if "://" in found[0] else found[0], text)


def _masked_word(word: str) -> str:
    address = word.rstrip(_BEHIND)
    return mask_url(address) + word[len(address) :]


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
    if isinstance(value, str) and "://" in value:
        return mask_url(value)
    return _mask_no_url(value) if key == "url" else value


def _mask_no_url(value: Any) -> Any:
    """Return what may be shown of what is no URL where one belongs: `embedded` or nearly so, a host, plain pieces."""
    if host := _HOST.fullmatch(str(value)):
        return _masked_path(host)
    text = str(value)[: 2 * len(EMBEDDED)]
    return value if SequenceMatcher(None, text.lower(), EMBEDDED).ratio() >= _NEARLY else MASK


def is_number(value: Any) -> bool:
    """Return whether a value, or the text of one, is a number as settings have it, or a truth value."""
    return isinstance(value, bool | int | float | str) and _NUMBER.fullmatch(str(value)) is not None


def is_plain(text: str) -> bool:
    """Return whether a text is made of words and small numbers, as a key hardly is."""
    return _PLAIN_PIECE.fullmatch(text) is not None


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
