"""How a setting is described, and what a single text may be: each check returns the value or says what is wrong.

The messages end up behind file, key and (masked) value, so none of them quotes a value that may be secret.
"""

from __future__ import annotations

import math
import re
from typing import Any

from pydantic import Field
from pydantic.fields import FieldInfo

from rlm.core.endpoint import Limit
from rlm.core.text import is_name
from rlm.settings.secrets import FROM_ENVIRONMENT, Headers

#: Headers that RLM sets itself on every call, or that HTTP derives from the call.
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
_MOST_LABELS, _LONGEST_LABEL = 16, 50
#: Well below what Redis can count and keep time for.
_LARGEST = 10**9
_LONGEST_HEADER = 8000
_WEB_TOKEN = re.compile(r"[!-~]{16,200}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t -~\x80-\xff]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DSN = re.compile(r"https?://[^@/\s]+@[^@/\s]+/(?:[^\s@?#]*/)?\d+")


def setting(default: Any, meaning: str, *, allowed: str, unset: str = "", **rules: Any) -> Any:
    """Describe one setting: `allowed` is the rules in words, `unset` what a missing value means."""
    return Field(default, description=meaning, json_schema_extra={"allowed": allowed, "unset": unset}, **rules)


def seconds(default: float | None, meaning: str, *, from_zero: bool = False, unset: str = "") -> Any:
    """Describe a duration. 1e9 (31 years) keeps dates and Lua's numbers within what they can hold."""
    allowed = "a number of seconds " + ("from 0 to 1e9" if from_zero else "above 0, at most 1e9")
    return setting(default, meaning, allowed=allowed, unset=unset, le=1e9, **{"ge" if from_zero else "gt": 0})


def whole(default: int, meaning: str, *, lowest: int, highest: int = 10**9) -> Any:
    """Describe a count."""
    return setting(default, meaning, allowed=f"a whole number from {lowest} to {highest}", ge=lowest, le=highest)


def switch(meaning: str) -> Any:
    """Describe what is off by default, and may be on."""
    return setting(False, meaning, allowed="true or false")


def list_name(default: str, meaning: str) -> Any:
    """Describe the name of a Redis list."""
    allowed = "1 to 200 printable characters, another name than the other two, not beginning with `redis.prefix` and "
    return setting(default, meaning, allowed=allowed + "a colon")


def words(described: FieldInfo, what: str) -> str:
    """Return what `setting` was given as `allowed` or `unset`."""
    extra = described.json_schema_extra
    return str(extra[what]) if isinstance(extra, dict) else ""


def check_name(name: str) -> str:
    """Check the name of a type or endpoint: it becomes part of event ids, Redis keys and metrics."""
    if not is_name(name):
        raise ValueError("a name has 1 to 100 letters, digits and `_`, `.`, `-` (no colon, no space)")
    return name


def check_host_name(name: str) -> str:
    """Check the name of a host: none, or one that may begin the id of a process."""
    return check_name(name) if name else name


def check_labels(labels: dict[str, str]) -> dict[str, str]:
    """Check the labels of a host."""
    if len(labels) > _MOST_LABELS:
        raise ValueError(f"a host has at most {_MOST_LABELS} labels")
    for word in (*labels, *labels.values()):
        if not word.isprintable() or not 1 <= len(word) <= _LONGEST_LABEL or set(word) & {"=", ","}:
            raise ValueError(
                f"a label has a name and a value of 1 to {_LONGEST_LABEL} printable characters each, "
                "without `=` and `,`"
            )
    return labels


def check_list_name(name: str) -> str:
    """Check the name of a Redis list by itself."""
    if not name.isprintable() or not 1 <= len(name) <= _LONGEST_LIST_NAME:
        raise ValueError(f"the name of a list has 1 to {_LONGEST_LIST_NAME} printable characters")
    return name


def check_directory(path: str) -> str:
    """Check the name of a directory without looking for it."""
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


def check_header_name(name: str) -> str:
    """Check the name of a configured header."""
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError("a header's name has letters, digits and any of !#$%&'*+-.^_`|~")
    if name.title() in RESERVED_HEADERS:
        raise ValueError(f"RLM sets this header itself; reserved are {', '.join(RESERVED_HEADERS)}")
    return name


def check_header_value(value: str) -> str:
    """Check the configured value of a header: a literal, or `env:` and the name of a variable."""
    if not value.startswith(FROM_ENVIRONMENT):
        return check_header_text(value)
    if not _VARIABLE.fullmatch(value.removeprefix(FROM_ENVIRONMENT)):
        raise ValueError('must be "env:" and the name of an environment variable, "env:API_TOKEN"')
    return value


def check_header_text(text: str) -> str:
    """Check the text that would be sent as a header's value."""
    if not _HEADER_VALUE.fullmatch(text):
        raise ValueError("a header's value is Latin-1 text on one line, without control characters")
    if len(text) > _LONGEST_HEADER:
        raise ValueError(f"a header's value has at most {_LONGEST_HEADER} characters, which is what servers take")
    return text


def check_headers(headers: dict[str, str]) -> Headers:
    """Check that no header is given twice, in upper and lower case."""
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("the same header stands here twice, in upper and lower case")
    return Headers(headers)


def check_web_token(token: str) -> str:
    """Check the configured `web.token`: none, the token itself, or `env:` and the name of a variable."""
    if not token:
        return token
    return check_header_value(token) if token.startswith(FROM_ENVIRONMENT) else check_token_text(token)


def check_token_text(token: str) -> str:
    """Check the token that clients have to send. A short one would be found by trying."""
    if not _WEB_TOKEN.fullmatch(token):
        raise ValueError("a token has 16 to 200 visible ASCII characters; `openssl rand -hex 32` makes a good one")
    return token


def check_dsn(dsn: str) -> str:
    """Check `SENTRY_DSN` without connecting."""
    if not _DSN.fullmatch(dsn):
        raise ValueError("must be a Sentry DSN, https://KEY@HOST/PROJECT; leave it unset for none")
    return dsn
