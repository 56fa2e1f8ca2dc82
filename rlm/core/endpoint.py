"""Endpoints, event types and their limits, and the state of a window: the health of its endpoint in one of six words.

Health is decided only here, so lists, views, plans, explanations, checks and metrics use the same word.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta
from msgspec.structs import replace

#: Seconds that a call needs beyond its expected duration to be answered before a deadline: network and scheduling.
ANSWER_SLACK_SECONDS = 0.02

#: A lease covers one call, its time-out and this many seconds, as does a probe of a rested endpoint.
LEASE_SLACK_SECONDS = 2.0

#: A longer pause or wait has no end, seconds; those that end by themselves last at most a year.
ENDLESS_SECONDS: Final = 10 * 365 * 86_400
#: This many failures in a row rest an endpoint.
FAILING: Final = 5

_RULE = re.compile(r"(\d+) ?(?:/|per ) ?(\d+(?:\.\d+)?)? ?([a-z]+?)s?", re.ASCII)
#: As the `limits` library counts them (a month is 30 days, a year 12 months).
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "month": 2592000, "year": 31104000}


class Rule(msgspec.Struct, frozen=True):
    """At most `amount` calls in any `seconds` (fractions allowed)."""

    amount: int
    seconds: float


class Limit(msgspec.Struct, frozen=True):
    """One or more rules that hold together, and the text they were read from."""

    text: str
    rules: tuple[Rule, ...]

    @classmethod
    @lru_cache(maxsize=1024)
    def parse(cls, text: str) -> Limit:
        """Read `limits` notation, whose multiple may be a fraction: `30/minute` or `20 per 0.6 second; 1000/hour`.

        Raises:
            ValueError: the text is not a limit; the message has an example.
        """
        rules = []
        for part in re.split(r"[;,|]", text):
            # Single blanks: places that match any number of blanks would take cubic time to fail.
            match = _RULE.fullmatch(" ".join(part.lower().split()))
            if match is None or match[3] not in _SECONDS:
                example = '"30/minute" or "20 per 0.6 second; 1000/hour"'
                raise ValueError(f"{text[:100]!r} is not a limit; write for example {example}")
            rules.append(Rule(int(match[1]), float(match[2] or 1) * _SECONDS[match[3]]))
        if any(not 0 < number <= 10**9 for rule in rules for number in (rule.amount, rule.seconds)):
            raise ValueError("a limit's amount and its period in seconds are above 0, at most 1e9")
        return Limit(text, tuple(rules))

    @property
    def longest_seconds(self) -> float:
        """The longest period of its rules, seconds."""
        return max(rule.seconds for rule in self.rules)


def address_of(url: str) -> str:
    """Return host and port of a URL, also if these are variables; its other parts may hold a secret."""
    scheme, place = re.findall(r"^(?:(\w+)://)?(?:[^/?#]*@)?([^/?#]*)", url)[0]
    has_port = "$" in place or re.search(r":\d+$", place)
    return place if has_port else f"{place}:{443 if scheme == 'https' else 80}"


class Budget(msgspec.Struct, frozen=True):
    """A limit that several endpoints share because they use one upstream account. No endpoint has the same name."""

    name: str
    limit: Limit

    @property
    def window_id(self) -> str:
        """The name of its window in Redis. It depends only on the name, so used slots survive a changed limit."""
        return _window_id(f"budget {self.name}")


_MEDIA_TYPE = {"allowed": 'a media type, "application/json"'}
#: A value that JSON has.
_Value: TypeAlias = str | bool | int | Annotated[float, Meta(ge=-1e308, le=1e308)]


class Success(msgspec.Struct, frozen=True):
    """What an answer 2xx must be to be one: its content type, and `value` in a `field` of its JSON, or as all of it.

    A part that is None may be anything; a field must be there.
    """

    content_type: Annotated[str, Meta(pattern=r"\A[\w!#$&^.+-]+/[\w!#$&^.+-]+\Z", extra=_MEDIA_TYPE)] | None = None
    field: Annotated[str, Meta(min_length=1, extra={"allowed": "a text, not empty"})] | None = None
    value: Annotated[_Value, Meta(extra={"allowed": "a text, a number, true or false"})] | None = None

    def accepts(self, content_type: str, body: bytes | bytearray) -> bool:
        """Return whether an answer is a success. Parameters of its content type do not matter."""
        if self.content_type and content_type.partition(";")[0].strip().lower() != self.content_type.lower():
            return False
        if self.field is None and self.value is None:
            return True
        try:
            answer = msgspec.json.decode(body)
            value = answer if self.field is None else answer[self.field]
        except (ValueError, RecursionError, LookupError, TypeError):
            return False
        alike = isinstance(value, bool) == isinstance(self.value, bool)  # in Python, True is 1
        return self.value is None or (alike and value == self.value)


class Endpoint(msgspec.Struct, frozen=True):
    """One API address with its limit and, if any, its shared budget. Secrets in `headers` are still `env:NAME`."""

    name: str
    url: str
    limit: Limit
    timeout_seconds: float
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    budget: Budget | None = None
    success: Success | None = None
    written: str = ""  #: the URL in the file, if it names variables

    def __repr__(self) -> str:
        """Return it without URL and headers, which may hold secrets."""
        return f"Endpoint({self.name!r})"

    @property
    def window_id(self) -> str:
        """The name of its window in Redis. It depends only on the URL, so used slots survive another name or secret."""
        return _window_id(self.written or self.url)


@lru_cache(maxsize=1 << 16)
def _window_id(of: str) -> str:
    """Return a digest, cached because it is read thousands of times a second for at most tens of thousands of names."""
    return hashlib.sha256(of.encode()).hexdigest()[:16]


#: What has its own limit and window. No two have the same name.
Limited: TypeAlias = Endpoint | Budget


def all_limited(endpoints: Iterable[Endpoint]) -> list[Limited]:
    """Return the endpoints, then their budgets, each once."""
    named = {endpoint.name: endpoint for endpoint in endpoints}
    budgets = {endpoint.budget.name: endpoint.budget for endpoint in named.values() if endpoint.budget}
    return [*named.values(), *budgets.values()]


def in_force(endpoint: Endpoint, limits: Mapping[str, str]) -> Endpoint:
    """Return the endpoint with the limits in force: `limits` by name replace its own and its budget's."""
    budget = endpoint.budget
    if budget and budget.name in limits:
        budget = replace(budget, limit=Limit.parse(limits[budget.name]))
    return replace(endpoint, limit=Limit.parse(limits.get(endpoint.name, endpoint.limit.text)), budget=budget)


class EventType(msgspec.Struct, frozen=True):
    """A kind of event: its priority (higher first), expected seconds per call, and endpoints (the primary first).

    `share` is the part of a run's calls that the type gets while it has events waiting, whatever its priority. `limit`
    applies to endpoints without their own.
    """

    name: str
    priority: int
    processing_seconds: float
    endpoints: tuple[Endpoint, ...]
    share: float = 0.0
    limit: Limit | None = None


class WindowState(msgspec.Struct, frozen=True):
    """The window of an endpoint or a budget. An endpoint's window does not include its budget, which has its own.

    `free` slots are available now, the next in `wait_seconds`. `rest_seconds` is what is left of the longest rest of
    any kind, `held_seconds` of a rest because the window cannot be trusted, `paused_seconds` of an operator's pause.
    `suspect`: it rested because of its answers, and no probe has been answered well since. `ages` are the seconds since
    each call that may still count, in any order. `failures` counts them in a row, `failed_with` describes the last one
    in a few words, `opened_at` is when it last began to rest for them. The last pause was by `paused_by`, at
    `paused_at`; moments are seconds since 1970.
    """

    free: int = 0
    wait_seconds: float = 0.0
    rest_seconds: float = 0.0
    suspect: bool = False
    held_seconds: float = 0.0
    paused_seconds: float = 0.0
    ages: tuple[float, ...] = ()
    failures: int = 0
    failed_with: str = ""
    opened_at: float | None = None
    paused_by: str = ""
    paused_at: float | None = None

    def later(self, seconds: float) -> WindowState:
        """Return the window as it is `seconds` later if no call is made. `free` stays as it was read."""
        names = ("wait_seconds", "rest_seconds", "held_seconds", "paused_seconds")
        left = {name: max(0.0, getattr(self, name) - seconds) for name in names}
        return replace(self, **left, ages=tuple(age + seconds for age in self.ages))


class Circuit(StrEnum):
    """What happens to the next call. If several states apply, the first in this list counts."""

    HELD = "held"  # no call goes: its window cannot be trusted
    PAUSED = "paused"  # no call goes: an operator paused it
    RESTING = "resting"  # no call goes: it rests because of its answers
    PROBING = "probing"  # one call at a time goes, until one is answered well
    FULL = "full"  # no call goes: all slots of its limit are taken
    OK = "ok"  # calls go as the limit allows


def shut_by(window: WindowState) -> Circuit | None:
    """Return the state that stops or restricts calls beyond the limit, None if there is none."""
    if window.held_seconds > 0:
        return Circuit.HELD
    if window.paused_seconds > 0:
        return Circuit.PAUSED
    if window.rest_seconds > 0:
        return Circuit.RESTING
    return Circuit.PROBING if window.suspect else None
