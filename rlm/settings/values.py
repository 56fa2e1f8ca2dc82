"""Checks of single texts. Each returns the value or raises a ValueError.

RLM puts file, key and (masked) value before the messages, so no message may quote a value that may be secret.
"""

from __future__ import annotations

import math
import re

from rlm.core.endpoint import Limit
from rlm.core.text import is_name
from rlm.settings.secrets import FROM_ENVIRONMENT

#: Headers that RLM sets on every call, or that HTTP derives from the call.
RESERVED_HEADERS = (
    "Connection",
    "Content-Length",
    "Content-Type",
    "Host",
    "Idempotency-Key",
    "Transfer-Encoding",
    "User-Agent",
)

_LONGEST_LIST_NAME = 200
#: Well below the largest count and time that Redis can handle.
_LARGEST = 10**9
_LONGEST_HEADER = 8000
_WEB_TOKEN = re.compile(r"[!-~]{16,200}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t -~\x80-\xff]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DSN = re.compile(r"https?://[^@/\s]+@[^@/\s]+/(?:[^\s@?#]*/)?\d+")


def check_name(name: str) -> str:
    """Check the name of a type, endpoint or budget; it becomes part of event ids, Redis keys and metrics."""
    if not is_name(name):
        raise ValueError("a name has 1 to 100 letters, digits and `_`, `.`, `-` (no colon, no space)")
    return name


def check_list_name(name: str) -> str:
    """Check the name of one Redis list, without comparing it with the others."""
    if not name.isprintable() or not 1 <= len(name) <= _LONGEST_LIST_NAME:
        raise ValueError(f"the name of a list has 1 to {_LONGEST_LIST_NAME} printable characters")
    return name


def check_directory(path: str) -> str:
    """Check the path of a directory, which need not exist."""
    if not path.isprintable() or path.startswith("~"):
        raise ValueError("a directory is a path of printable characters; `~` is not expanded, write it out")
    return path


def check_limit(text: str) -> str:
    """Check a rate limit."""
    try:
        limit = Limit.parse(text)
    except ValueError:
        raise ValueError('must be a limit above zero, like "30/minute" or "20 per 0.6 second; 1000/hour"') from None
    if not math.isfinite(limit.longest_seconds):
        raise ValueError("the period of this limit is without end")
    if limit.longest_seconds > _LARGEST or max(rule.amount for rule in limit.rules) > _LARGEST:
        raise ValueError("a limit has at most 1e9 calls and a period of at most 1e9 seconds, which is 31 years")
    return text


def check_headers(headers: dict[str, str]) -> dict[str, str]:
    """Check configured headers: their names and values."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError("a header's name has letters, digits and any of !#$%&'*+-.^_`|~")
        if name.title() in RESERVED_HEADERS:
            raise ValueError(f"RLM sets the header {name} itself; reserved are {', '.join(RESERVED_HEADERS)}")
        try:
            check_source(value)
        except ValueError as error:
            raise ValueError(f"header {name}: {error}") from None
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("the same header is here twice, in upper and lower case")
    return headers


def check_source(value: str) -> str:
    """Check the configured value of a header: a literal, or `env:` and the name of a variable."""
    if not value.startswith(FROM_ENVIRONMENT):
        return check_header_text(value)
    if not _VARIABLE.fullmatch(value.removeprefix(FROM_ENVIRONMENT)):
        raise ValueError('must be "env:" and the name of an environment variable, "env:API_TOKEN"')
    return value


def check_header_text(text: str) -> str:
    """Check the text that will be sent as a header's value."""
    if not _HEADER_VALUE.fullmatch(text):
        raise ValueError("a header's value is Latin-1 text on one line, without control characters")
    if len(text) > _LONGEST_HEADER:
        raise ValueError(f"a header's value has at most {_LONGEST_HEADER} characters, which is what servers accept")
    return text


def check_web_token(token: str) -> str:
    """Check the configured `web.token`: empty, the token itself, or `env:` and the name of a variable."""
    if not token:
        return token
    return check_source(token) if token.startswith(FROM_ENVIRONMENT) else check_token_text(token)


def check_token_text(token: str) -> str:
    """Check the token that clients must send. A short one could be guessed."""
    if not _WEB_TOKEN.fullmatch(token):
        raise ValueError("a token has 16 to 200 visible ASCII characters; `openssl rand -hex 32` makes a good one")
    return token


def check_dsn(dsn: str) -> str:
    """Check `SENTRY_DSN` without connecting."""
    if not _DSN.fullmatch(dsn):
        raise ValueError("must be a Sentry DSN, https://KEY@HOST/PROJECT; leave it unset for none")
    return dsn
