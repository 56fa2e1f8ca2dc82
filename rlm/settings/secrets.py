"""Secrets: which values of the configuration are secret, where they are read, and how they are masked in any text.

Secret are the values that headers and the web token take from the environment (`env:NAME`), `${NAME}` in the URL of an
endpoint, the token itself, and the login in a URL of Redis or in Sentry's DSN. `mask` looks for those of this process,
which `load_settings` remembers.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from rlm.core.text import safe_line

MASK = "***"
#: A header value or token that names an environment variable begins with this.
FROM_ENVIRONMENT = "env:"
#: A variable in the URL of an endpoint.
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
#: The value of `redis.url` that is not a URL.
EMBEDDED = "embedded"

#: Up to the *last* "@", because a password that is not percent-encoded may contain "/", "?" and "@".
_LOGIN = re.compile(r"(?P<start>(?:[a-z][a-z0-9+.-]*://)?(?:[^:@/?#]*:)?)(?P<secret>.*)@", re.IGNORECASE | re.DOTALL)
#: What else of a Redis URL is no secret: these parameters. Any other may be a password, however it is spelt.
_OPEN = r"db=\d{1,6}\b|(sentinel_)?username=|socket_(connect_)?timeout=|ssl_(ca_certs|ca_path|certfile|keyfile)="
_PASSWORD = re.compile(rf"(?P<start>[?&;#](?!{_OPEN})([^=&#?]*=)?)(?P<secret>[^&#]+)")
#: Shorter values are not masked in texts: they would match parts of ordinary words.
_SHORTEST = 6


def mask_url(url: str) -> str:
    """Return a URL without the login in it; a user before a password stays. Any text is accepted."""
    if login := _LOGIN.match(url):
        url = f"{login['start']}{MASK}@{url[login.end() :]}"
    return _PASSWORD.sub(rf"\g<start>{MASK}", url)


def url_secrets(url: str) -> Iterator[str]:
    """Yield the parts of a URL that `mask_url` masks, as they are written."""
    yield from (match["secret"] for match in (_LOGIN.match(url), *_PASSWORD.finditer(url)) if match)


def resolve(value: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the value of the variable that `value` names with `env:`; otherwise return `value`.

    Raises:
        ValueError: that variable is not set or empty.
    """
    return _variable(value.removeprefix(FROM_ENVIRONMENT), environ) if value.startswith(FROM_ENVIRONMENT) else value


def resolve_url(url: str, environ: Mapping[str, str]) -> str:
    """Return the URL of an endpoint with the value of each `${NAME}`; raise a ValueError if one is not set."""
    return VARIABLE.sub(lambda match: _variable(match[1], environ), url)


def _variable(name: str, environ: Mapping[str, str]) -> str:
    if not (value := environ.get(name)):
        what = f"the environment variable {safe_line(name)} is not set or empty; set it"
        raise ValueError(what if name else "`env:` names no environment variable; write env:NAME")
    return value


class Secrets:
    """Values that nobody may see, in every form in which they may appear."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        decoded = {form for value in values for form in (value, unquote(value), unquote_plus(value))}
        plain = {form for form in decoded if len(form) >= _SHORTEST}
        # The longest first: a shorter match would leave the rest visible.
        forms = sorted({form for value in plain for form in _forms(value)}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, forms)), re.IGNORECASE) if forms else None
        self._longest = len(forms[0]) if forms else 0

    def __repr__(self) -> str:
        return "Secrets(...)"

    def mask(self, text: str, *, torn: bool = False) -> str:
        """Return a text with its secrets masked.

        Call this before cutting a text, because half a secret is not found. If `text` is already cut off (`torn`), the
        part of its end that could be the beginning of a secret is removed.
        """
        if self._pattern is None:
            return text
        masked = self._pattern.sub(MASK, text)
        return masked[: -self._longest] if torn else masked


def _forms(secret: str) -> Iterator[str]:
    """Yield the forms in which a secret may appear: unchanged, and encoded for URLs, JSON and base64.

    Bytes from the wire are read as Latin-1, so a secret in UTF-8 has a second form.
    """
    for raw in {secret.encode(errors="replace"), secret.encode("latin-1", errors="replace")}:
        for plain in (secret, raw.decode("latin-1")):
            in_json = json.dumps(plain)[1:-1], json.dumps(plain, ensure_ascii=False)[1:-1]
            yield from (plain, *in_json, *(text.replace("/", "\\/") for text in in_json))
        yield from (quote(raw, safe=""), quote(raw), quote_plus(raw))
        yield from (base64.b64encode(raw).decode().rstrip("="), base64.urlsafe_b64encode(raw).decode().rstrip("="))


_remembered = [Secrets()]


def remember(secrets: Secrets) -> None:
    """Set the secrets that `mask` looks for."""
    _remembered[0] = secrets


def mask(text: str, *, torn: bool = False) -> str:
    """Return a text without the secrets of the configuration that this process loaded last; see `Secrets.mask`."""
    return _remembered[0].mask(text, torn=torn)
