"""Endpoints, their limits, and the order in which a type's endpoints are used."""

from __future__ import annotations

import hashlib
import itertools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: What a call needs beyond its expected time to be answered before a deadline, seconds: its way, a thread that waits.
ANSWER_SLACK_SECONDS = 0.02

#: Seconds of each granularity, as the `limits` library counts them (a month is 30 days, a year 12 months).
GRANULARITIES = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "month": 2592000, "year": 31104000}

_RULE = re.compile(
    r"\s*(?P<amount>\d+)\s*(?:/|\s+per\s+|per\s+)\s*(?P<multiple>\d+(?:\.\d+)?)?\s*(?P<unit>[a-z]+?)s?\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Rule:
    """At most `amount` calls in any `seconds` (fractions allowed)."""

    amount: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Limit:
    """One or several rules that hold together, and the text they were read from."""

    text: str
    rules: tuple[Rule, ...]

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Read `limits` notation, `30/minute` or `20 per 0.6 second; 1000/hour`.

        Unlike `limits.parse_many` the multiple may be a fraction, for windows of less than a second.

        Raises:
            ValueError: the text is no limit; the message says what one looks like.
        """
        return cls(text, tuple(_parse_rule(part, text) for part in re.split(r"[;,|]", text)))

    @property
    def longest_seconds(self) -> float:
        """The longest period of its rules, seconds."""
        return max(rule.seconds for rule in self.rules)


def _parse_rule(part: str, text: str) -> Rule:
    match = _RULE.fullmatch(part)
    unit = match["unit"].lower() if match else ""
    if match is None or unit not in GRANULARITIES:
        raise ValueError(f'{text!r} is not a limit; write for example "30/minute" or "20 per 0.6 second; 1000/hour"')
    seconds = float(match["multiple"] or 1) * GRANULARITIES[unit]
    amount = int(match["amount"])
    if amount < 1 or seconds <= 0:
        raise ValueError(f"{text!r} would never let a call through; the amount and the period must be above zero")
    return Rule(amount, seconds)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One API address with a limit of its own. `headers` are as configured: secrets still read `env:NAME`."""

    name: str
    url: str
    limit: Limit
    timeout_seconds: float
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def window_id(self) -> str:
        """Names its window in Redis. It follows the URL alone, so a renamed endpoint keeps what it has used."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class EventType:
    """A kind of event: its priority (higher goes first), expected seconds a call, endpoints (the primary first)."""

    name: str
    priority: int
    processing_seconds: float
    endpoints: tuple[Endpoint, ...]

    @property
    def needed_seconds(self) -> float:
        """What must be left of the time before a deadline for a call to be begun."""
        return self.processing_seconds + ANSWER_SLACK_SECONDS


def in_order_of_use(free: Mapping[str, int], endpoints: tuple[Endpoint, ...]) -> Iterator[str]:
    """Name the endpoint of each free slot, in the order of use: the primary's first, then the overflows' evenly.

    `free` holds the free slots by endpoint name; an endpoint that is missing has none. Evenly means that the overflow
    endpoint with the most free slots is next, ties going by the configured order.
    """
    primary, *overflow = endpoints
    yield from itertools.repeat(primary.name, free.get(primary.name, 0))
    left = {endpoint.name: free.get(endpoint.name, 0) for endpoint in overflow}
    for _ in range(sum(left.values())):
        name = max(left, key=left.__getitem__)
        left[name] -= 1
        yield name
