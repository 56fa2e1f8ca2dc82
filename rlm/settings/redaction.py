"""Takes the secrets that RLM sends out of whatever comes back from an endpoint, in each form they may come back in."""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from rlm.settings.masking import FROM_ENVIRONMENT, MASK, is_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rlm.core.endpoint import Endpoint

#: What is shorter is no secret, and would be found in every other word.
_SHORTEST = 4
#: A part of a value (a cookie's, a signature's, a parameter that has no telling name) counts from this length on.
_SHORTEST_PART = 8
_SEPARATORS = re.compile(r"[\s;,=\"']+")
_HEX = re.compile(r"%[0-9A-F]{2}")


def redact(text: str, secrets: Iterable[str], *, torn: bool = False) -> str:
    """Return `text` with each of the `secrets` in it masked, in whatever form it stands there.

    To be called before a text is cut: half a secret is not found. Where the text is `torn`, cut off before it came
    here, as much of its end goes as could be the beginning of a secret.
    """
    written = sorted({form for secret in secrets for form in forms(secret)}, key=len, reverse=True)
    for form in written:
        text = text.replace(form, MASK)
    return text[: -len(written[0])] if torn and written else text


def secrets_of_call(endpoint: Endpoint, sent: Mapping[str, str]) -> set[str]:
    """Return what is secret of a call: of its headers, as they are `sent`, and of its URL.

    A header is, if its value came from the environment or its name says so; of the URL are user and password, and
    what a parameter holds that is long enough or has a telling name.
    """
    found: set[str] = set()
    for name, value in sent.items():
        if endpoint.headers.get(name, "").startswith(FROM_ENVIRONMENT) or is_secret(name):
            found.update(parts_of(value))
    found.update(_of_url(endpoint.url))
    return {secret for secret in found if len(secret) >= _SHORTEST}


def _of_url(url: str) -> Iterator[str]:
    parts = urlsplit(url)
    yield from (unquote(one) for one in (parts.username or "", parts.password or "", parts.netloc.rpartition("@")[0]))
    for name, value in parse_qsl(parts.query):
        if is_secret(name) or len(value) >= _SHORTEST_PART:
            yield value
    yield from (raw.partition("=")[2] for raw in parts.query.split("&") if is_secret(raw.partition("=")[0]))


def parts_of(value: str) -> Iterator[str]:
    """Yield a header's value, what stands behind its scheme (`Bearer X`), its longer parts, and what `Basic` hides."""
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
    """Yield the forms in which a secret may be written: as it is, and as URLs, JSON, HTML and base64 have it.

    Texts from a wire are read as Latin-1, so what is UTF-8 there has another form here.
    """
    yield from _escaped(secret, json.dumps(secret)[1:-1])
    for raw in {secret.encode(errors="replace"), secret.encode("latin-1", errors="replace")}:
        plain = raw.decode("latin-1")
        yield from _escaped(plain, json.dumps(plain, ensure_ascii=False)[1:-1])
        for written in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
            yield from (written, _HEX.sub(lambda found: found[0].lower(), written))
        yield from (base64.b64encode(raw).decode().rstrip("="), base64.urlsafe_b64encode(raw).decode().rstrip("="))


def _escaped(plain: str, in_json: str) -> Iterator[str]:
    yield from (plain, in_json, in_json.replace("/", "\\/"), html.escape(plain), html.escape(plain, quote=False))
