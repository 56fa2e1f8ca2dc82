"""The secrets of a configuration, to be masked in whatever a process says: one notion of them for log, errors, Sentry.

Ask `known` for those of this process: `load_settings` remembers them. Before that, and of a configuration that cannot
be used, none is known; its faults mask what may be one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from rlm.settings.masking import FROM_ENVIRONMENT, MASK, is_plain, is_secret, mask_urls, url_secrets
from rlm.settings.redaction import forms, parts_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rlm.settings.effective import Settings

#: A shorter value is no secret worth the name, and would mask half of what is said.
_SHORTEST = 6
#: What many a header holds that is no secret: what is understood.
_HARMLESS_HEADERS = frozenset({"accept", "accept-encoding", "accept-language", "cache-control"})


class Secrets:
    """Values nobody may see, in each spelling they may come in: as they are, percent-encoded, escaped, in base64."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        spellings = {
            form for value in values for raw in (value, unquote(value)) if len(raw) >= _SHORTEST for form in forms(raw)
        }
        longest_first = sorted(spellings, key=len, reverse=True)  # else what one begins with would leave its rest
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __repr__(self) -> str:
        return "Secrets(...)"

    def mask(self, text: str) -> str:
        """Return a text without the secrets, and with each address in it as `mask_url` has it."""
        text = self.hide(text)
        return mask_urls(text) if "://" in text else text

    def hide(self, text: str) -> str:
        """Return a text without the secrets, its addresses as they are."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)


def secrets_of(settings: Settings, environ: Mapping[str, str]) -> Secrets:
    """Collect the secrets of settings: of URLs, headers, the web token and Sentry's DSN, those in variables as well."""
    return Secrets(_values(settings, environ))


def _values(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    yield from url_secrets(settings.redis.url)
    yield from url_secrets(settings.sentry_dsn or "")
    yield _resolved(settings.web.token, environ)
    for endpoint in (one for event_type in settings.event_types for one in event_type.endpoints):
        yield from url_secrets(endpoint.url)
        for name, value in endpoint.headers.items():
            if value.startswith(FROM_ENVIRONMENT) or is_secret(name) or not _is_harmless(name, value):
                yield from parts_of(_resolved(value, environ))


def _is_harmless(name: str, value: str) -> bool:
    """Return whether a header in the file is none that hides anything: what is understood, or a plain word."""
    return name.lower() in _HARMLESS_HEADERS or is_plain(value)


def _resolved(value: str, environ: Mapping[str, str]) -> str:
    return environ.get(value.removeprefix(FROM_ENVIRONMENT), "") if value.startswith(FROM_ENVIRONMENT) else value


_remembered = {"secrets": Secrets()}


def remember(secrets: Secrets) -> None:
    """Have `known` return these from now on."""
    _remembered["secrets"] = secrets


def known() -> Secrets:
    """Return the secrets of the configuration that this process loaded last."""
    return _remembered["secrets"]
