"""What an answer means (CONTRACT 2): four outcomes, and how long an endpoint wants to rest. Pure."""

from __future__ import annotations

import email.utils
import math
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, TypeAlias

from rlm.core.trouble import OF_ENDPOINT
from rlm.delivery import kinds

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A `Retry-After` beyond this many seconds is taken for a mistake and shortened to it.
MAX_RETRY_AFTER_SECONDS = 86_400.0

TOO_MANY_REQUESTS, _UNAVAILABLE = 429, 503
_SUCCESS, _REFUSALS = range(200, 300), range(300, 500)
_TRY_AGAIN = frozenset({408, 425})


@dataclass(frozen=True, slots=True)
class Delivered:
    """The endpoint took the event (2xx), `seconds` after the call was sent."""

    status: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Throttled:
    """The endpoint wants a rest (429, or 503 with `Retry-After`); None where it did not say how long, in seconds."""

    status: int
    seconds: float
    retry_after: float | None

    @property
    def kind(self) -> str:
        """In which word it is counted."""
        return kinds.of_status(self.status)


@dataclass(frozen=True, slots=True)
class Rejected:
    """The endpoint will never take the event (other 4xx, 3xx)."""

    status: int
    seconds: float
    detail: str

    @property
    def kind(self) -> str:
        """In which word it is counted."""
        return kinds.of_status(self.status)

    @property
    def of_endpoint(self) -> bool:
        """Return whether it speaks of the endpoint: several of these in a row are its trouble, not the events'."""
        return self.status in OF_ENDPOINT


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The event may be sent again: 408, 425, other 5xx, or no answer at all, then `seconds` is None.

    `kind` is the word in which it is counted, see `rlm.delivery.kinds`.
    """

    detail: str
    seconds: float | None
    kind: str


Outcome: TypeAlias = Delivered | Throttled | Rejected | Unreachable


def classify(status: int, retry_after: Sequence[str], excerpt: str, seconds: float, now: float) -> Outcome:
    """Turn a final answer into an outcome, as CONTRACT 2 says.

    `retry_after` holds every `Retry-After` of the answer. `now` is in seconds since 1970, `seconds` since it was sent.
    """
    if status in _SUCCESS:
        return Delivered(status, seconds)
    if status == TOO_MANY_REQUESTS or (status == _UNAVAILABLE and retry_after):
        return Throttled(status, seconds, _longest(retry_after, now))
    detail = f"HTTP {status}{f': {excerpt}' if excerpt else ''}"
    if status in _REFUSALS and status not in _TRY_AGAIN:
        return Rejected(status, seconds, detail)
    return Unreachable(detail, seconds, kinds.of_status(status))


def parse_retry_after(value: str, now: float) -> float | None:
    """Read a `Retry-After` (seconds or an HTTP date) as seconds from `now` (since 1970); None for nonsense."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(value)
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, OverflowError):
            return None
    if math.isnan(seconds):
        return None
    return min(max(0.0, seconds), MAX_RETRY_AFTER_SECONDS)


def _longest(values: Sequence[str], now: float) -> float | None:
    """Return the longest rest asked for: with two of them a proxy has added its own, and both want to be heard."""
    rests = (parse_retry_after(value, now) for value in values)
    return max((rest for rest in rests if rest is not None), default=None)
