"""Secrets: what may be shown of them, where they are read, and how any text is masked.

`known` returns the secrets of this process, which `load_settings` remembers. Before that, or with a faulty
configuration, none are known; messages about faults mask everything that may be a secret.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus, urlsplit

from rlm.core.errors import ConfigurationError

if TYPE_CHECKING:
    from rlm.core.endpoint import Endpoint

MASK = "***"
#: A header value that names an environment variable begins with this.
FROM_ENVIRONMENT = "env:"

_SECRET_NAME = re.compile(r"pass|pwd|secret|token|key|auth|dsn|credential|signature|^sig$|cookie", re.IGNORECASE)
#: An HTTP URL whose authority is only host and port. A later "@" belongs to its path.
_PLAIN_HTTP = re.compile(r"https?://(\[[0-9a-f:.]+\]|[^/?#@:\[\]]+)(:\d+)?([/?#].*)?", re.IGNORECASE | re.DOTALL)
#: Up to the *last* "@", because a password that is not percent-encoded may contain "/", "?" and "@".
_USERINFO = re.compile(r"(?P<start>(?:[a-z][a-z0-9+.-]*://)?)(?P<user>[^:@/?#]*:)?.*@", re.IGNORECASE | re.DOTALL)
_PARAMETER = re.compile(r"(?P<start>[?&](?P<name>[^=&#?]+)=)(?P<value>[^&#]+)")
#: An HTTP URL up to its path, and its path.
_HTTP_PATH = re.compile(r"(?P<start>https?://[^/?#]*)(?P<path>/[^?#]*)", re.IGNORECASE)
#: A piece of a path made of words and small numbers: `v1`, `rebalance_api`, `sendMessage`, `20231114`. Any other piece
#: may be a key, like the last pieces of a webhook.
_WORD = r"(?:(?:[a-z]{1,20}|[A-Z][a-z]{1,19})(?:[A-Z][a-z]{2,19}){0,3}[0-9]{0,2}|[A-Z]{1,7}|[0-9]{1,8})"
_PLAIN_PIECE = re.compile(rf"(?=.{{0,60}}\Z){_WORD}?(?:[._-]{_WORD}){{0,6}}", re.DOTALL)
#: Words, each of which may be an address, and punctuation that may follow an address.
_WORDS = re.compile(r"\S+")
_BEHIND = ")]}>'\",.:;"

#: The only value of `redis.url` that is not a URL, and how similar to it a misspelling must be.
EMBEDDED = "embedded"
_NEARLY = 0.7
#: A host, or host and port, given in place of a URL.
_HOST = re.compile(
    r"(?P<start>(?:[a-z0-9-]{1,40}\.)+[a-z]{2,10}(?::\d{1,5})?|[a-z-]{1,20}:\d{1,5}|(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?)"
    r"(?P<path>(?:/[^?#@]*)?)"
)

#: Shorter texts are not masked in an endpoint's answer, because they would match parts of ordinary words.
SHORTEST_SENT = 4
#: The same for texts that RLM writes itself.
_SHORTEST = 6
#: Parts of a value (of a cookie, a signature, a parameter without a telling name) count as secret from this length on.
_SHORTEST_PART = 8
_SEPARATORS = re.compile(r"[\s;,=\"']+")
_HEX = re.compile(r"%[0-9A-F]{2}")


class Headers(dict[str, str]):
    """Configured headers whose representation shows `env:NAME` and masks every other value."""

    def __repr__(self) -> str:
        return repr({name: mask_header(value) for name, value in self.items()})


def mask_url(url: str) -> str:
    """Return `url` without its password and without probable secrets in its path and parameters.

    Scheme, host and port stay. A user before a password stays; a user without one may be a key and is masked. In an
    HTTP URL, pieces of the path and parameter values stay only if they are words or small numbers. In other URLs, the
    values of parameters with a secret's name are masked. Any text is accepted; a malformed URL is masked wherever it
    could contain a password.
    """
    if "@" in url and not _PLAIN_HTTP.fullmatch(url):
        url = _USERINFO.sub(lambda found: f"{found['start']}{found['user'] or ''}{MASK}@", url, count=1)
    url = _HTTP_PATH.sub(_masked_path, url, count=1)
    return _PARAMETER.sub(lambda found: found["start"] + MASK if _hides(url, found) else found[0], url)


def _masked_path(found: re.Match[str]) -> str:
    pieces = found["path"].split("/")
    return found["start"] + "/".join(piece if is_plain(piece) else MASK for piece in pieces)


def _hides(url: str, parameter: re.Match[str]) -> bool:
    plain = is_plain(parameter["value"]) or not url.lower().startswith("http")
    return is_secret(parameter["name"]) or not plain


def url_secrets(url: str) -> Iterator[str]:
    """Yield the parts of a URL that `mask_url` masks, as they are written."""
    address = url
    if "@" in url and not _PLAIN_HTTP.fullmatch(url) and (userinfo := _USERINFO.match(url)):
        hidden = userinfo[0].removeprefix(userinfo["start"] + (userinfo["user"] or "")).removesuffix("@")
        yield hidden
        address = userinfo["start"] + url[userinfo.end() :]
    if path := _HTTP_PATH.match(address):
        yield from (piece for piece in path["path"].split("/") if not is_plain(piece))
    yield from (found["value"] for found in _PARAMETER.finditer(address) if _hides(address, found))


def mask_urls(text: str) -> str:
    """Return a text with `mask_url` applied to each address in it."""
    return _WORDS.sub(_masked_word, text) if "://" in text else text


def _masked_word(found: re.Match[str]) -> str:
    word = found[0]
    address = word.rstrip(_BEHIND)
    return mask_url(address) + word[len(address) :] if "://" in word else word


def mask_header(value: str) -> str:
    """Return what may be shown of a header's configured value: `env:NAME`, but no literal value."""
    return value if value.startswith(FROM_ENVIRONMENT) else MASK


def mask_value(path: tuple[str | int, ...], value: Any) -> Any:
    """Return what may be shown of the setting at `path`."""
    key = str(path[-1])
    if "headers" in path[2:] or is_secret(key):
        return mask_header(value) if value and isinstance(value, str) else value and MASK
    if isinstance(value, str) and "://" in value:
        return mask_url(value)
    return _mask_no_url(value) if key == "url" else value


def _mask_no_url(value: Any) -> Any:
    """Return what may be shown of a `url` that is not a URL: `embedded` or a misspelling, a host, plain pieces."""
    if host := _HOST.fullmatch(str(value)):
        return _masked_path(host)
    if value == EMBEDDED:
        return value
    from difflib import SequenceMatcher  # noqa: PLC0415  # needed only after a typing error

    text = str(value)[: 2 * len(EMBEDDED)]
    return value if SequenceMatcher(None, text.lower(), EMBEDDED).ratio() >= _NEARLY else MASK


def is_plain(text: str) -> bool:
    """Return whether a text consists of words and small numbers, which keys rarely do."""
    return _PLAIN_PIECE.fullmatch(text) is not None


def is_secret(name: str) -> bool:
    """Return whether a setting, parameter or variable with this (maybe percent-encoded) name likely holds a secret."""
    return _SECRET_NAME.search(unquote(name)) is not None


def resolve_headers(endpoint: Endpoint, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the headers to send to `endpoint`, each `env:NAME` replaced by the value of that variable.

    The values are secrets: send them, but do not store them.

    Raises:
        ConfigurationError: a variable is not set; the message names endpoint, header and variable.
    """
    return {
        name: _resolved(value, f"endpoint {endpoint.name!r}, header {name!r}", environ)
        for name, value in endpoint.headers.items()
    }


def resolve_token(token: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the secret token of `web.token`, empty if none; raise a ConfigurationError if its variable is not set."""
    return _resolved(token, "web.token", environ)


def _resolved(value: str, named: str, environ: Mapping[str, str]) -> str:
    resolved = from_environment(value, environ)
    if not resolved and value:
        variable = value.removeprefix(FROM_ENVIRONMENT)
        raise ConfigurationError(f"{named}: the environment variable {variable} is not set or empty; set it")
    return resolved


def from_environment(value: str, environ: Mapping[str, str]) -> str:
    """Return the value of the variable that `value` names with `env:`, empty if not set; otherwise return `value`."""
    return environ.get(value.removeprefix(FROM_ENVIRONMENT), "") if value.startswith(FROM_ENVIRONMENT) else value


def secrets_of_call(endpoint: Endpoint, sent: Mapping[str, str]) -> set[str]:
    """Return the secrets of a call: those in the headers that are `sent`, and those in the URL.

    A header is secret if its value comes from the environment or its name is telling. A parameter is secret if it is
    long or its name is telling. `known` has the other secrets of the URL.
    """
    found: set[str] = set()
    for name, value in sent.items():
        if endpoint.headers.get(name, "").startswith(FROM_ENVIRONMENT) or is_secret(name):
            found.update(parts_of(value))
    for parameter in urlsplit(endpoint.url).query.split("&"):
        name, _, value = parameter.partition("=")
        if is_secret(name) or len(value) >= _SHORTEST_PART:
            found.update((value, unquote_plus(value)))
    return {secret for secret in found if len(secret) >= SHORTEST_SENT}


def parts_of(value: str) -> Iterator[str]:
    """Yield a header's value, the part after its scheme (`Bearer X`), its longer parts, and what `Basic` encodes."""
    value = value.strip()
    yield value
    scheme, _, credentials = value.partition(" ")
    yield credentials.strip()
    yield from (part for part in _SEPARATORS.split(value) if len(part) >= _SHORTEST_PART)
    if scheme.lower() == "basic":
        try:
            plain = base64.b64decode(credentials, validate=True).decode("latin-1")
        except (binascii.Error, ValueError):
            return
        yield from (plain, plain.partition(":")[2])


def forms(secret: str) -> Iterator[str]:
    """Yield the forms in which a secret may appear: unchanged, and encoded for URLs, JSON, HTML and base64.

    Bytes from the wire are read as Latin-1, so a secret in UTF-8 has a second form.
    """
    yield from _escaped(secret, json.dumps(secret)[1:-1])
    for raw in {secret.encode(errors="replace"), secret.encode("latin-1", errors="replace")}:
        plain = raw.decode("latin-1")
        yield from _escaped(plain, json.dumps(plain, ensure_ascii=False)[1:-1])
        for written in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
            yield from (written, _HEX.sub(lambda found: found[0].lower(), written))
        yield from (base64.b64encode(raw).decode().rstrip("="), base64.urlsafe_b64encode(raw).decode().rstrip("="))


def _escaped(plain: str, in_json: str) -> Iterator[str]:
    import html  # noqa: PLC0415  # its tables take time to load, and most processes have no secret

    yield from (plain, in_json, in_json.replace("/", "\\/"), html.escape(plain), html.escape(plain, quote=False))


class Secrets:
    """Values that nobody may see, in every form in which they may appear.

    `names` stay visible where they stand alone, even if they contain text that is masked elsewhere.
    """

    def __init__(self, values: Iterable[str] = (), shortest: int = _SHORTEST, names: Iterable[str] = ()) -> None:
        spellings = {
            form for value in values for raw in (value, unquote(value)) if len(raw) >= shortest for form in forms(raw)
        }
        longest_first = sorted(spellings, key=len, reverse=True)  # a shorter match would leave the rest visible
        hidden = "|".join(map(re.escape, longest_first))
        shown = [name for name in names if hidden and re.search(hidden, name)]
        by_itself = rf"(?<![\w/-])(?P<name>{'|'.join(map(re.escape, shown))})(?![\w/-])|" if shown else ""
        self._pattern = re.compile(f"{by_itself}{hidden}") if hidden else None
        self._longest = len(longest_first[0]) if longest_first else 0

    def __repr__(self) -> str:
        return "Secrets(...)"

    def mask(self, text: str) -> str:
        """Return a text with its secrets and addresses masked."""
        return mask_urls(self.hide(text))

    def hide(self, text: str, *, torn: bool = False) -> str:
        """Return a text with its secrets masked and its addresses unchanged.

        Call this before cutting a text, because half a secret is not found. If `text` is already cut off (`torn`), the
        part of its end that could be the beginning of a secret is removed.
        """
        hidden = text if self._pattern is None else self._pattern.sub(_masked, text)
        return hidden[: -self._longest] if torn and self._longest else hidden


def _masked(found: re.Match[str]) -> str:
    return found.groupdict().get("name") or MASK


_remembered = {"secrets": Secrets()}


def remember(secrets: Secrets) -> None:
    """Set the secrets that `known` returns."""
    _remembered["secrets"] = secrets


def known() -> Secrets:
    """Return the secrets of the configuration that this process loaded last."""
    return _remembered["secrets"]
