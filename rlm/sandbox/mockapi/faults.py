"""How an endpoint is told to fail, and what an admitted call gets because of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from rlm.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
Status = Annotated[int, msgspec.Meta(ge=200, le=599)]


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is wrong with one endpoint; as built, nothing is. Of several faults the first one listed here wins.

    Attributes:
        down: connections are reset before the call is read; it is no arrival.
        outages: `(start, end)` in seconds since this was set; in between every call is answered 503 at once.
        throttle: every call is answered 429 at once, with this many seconds as `Retry-After`.
        reset: the share of calls (true: all) whose connection is reset once the call was read.
        hang: the share of calls (true: all) that are read and never answered.
        error_rate: the share of calls answered with `status`; if None, all of them where `status` is set.
        status: the status of those; 500 if None.
        slow: processing takes this many times as long.
        jitter_seconds: up to this many seconds, at random, are added to it.
        retry_after: the form `Retry-After` takes, of this endpoint's limit as well: seconds, an HTTP date, or none.
    """

    down: bool = False
    outages: tuple[tuple[Amount, Amount], ...] = ()
    throttle: Amount | None = None
    reset: bool | Share = False
    hang: bool | Share = False
    error_rate: Share | None = None
    status: Status | None = None
    slow: Amount = 1.0
    jitter_seconds: Amount = 0.0
    retry_after: Literal["seconds", "date", "none"] = "seconds"

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Faults:
        """Check `fields` and return these faults; those not named are absent.

        Raises:
            ConfigurationError: a field is unknown or its value is not allowed; the message says what is.
        """
        try:
            return msgspec.convert(fields, cls)
        except msgspec.ValidationError as error:
            known = ", ".join(cls.__struct_fields__)
            raise ConfigurationError(f"{dict(fields)!r} is no fault: {error}; the fields are {known}") from error


@dataclass(frozen=True, slots=True)
class Answer:
    """The call is answered `after_seconds`; `retry_after_seconds` is told to the caller."""

    status: int
    after_seconds: float = 0.0
    retry_after_seconds: float | None = None


class NoAnswer(Enum):
    """The call is not answered."""

    HANG = auto()
    RESET = auto()


def outcome(faults: Faults, since_set: float, processing_seconds: float, random: Random) -> Answer | NoAnswer:
    """Decide what an admitted call gets, `since_set` seconds after the outages were set."""
    if any(start <= since_set < end for start, end in faults.outages):
        return Answer(503)
    if faults.throttle is not None:
        return Answer(429, retry_after_seconds=faults.throttle)
    if random.random() < faults.reset:
        return NoAnswer.RESET
    if random.random() < faults.hang:
        return NoAnswer.HANG
    error_rate = faults.error_rate if faults.error_rate is not None else float(faults.status is not None)
    status = (faults.status or 500) if random.random() < error_rate else 200
    return Answer(status, processing_seconds * faults.slow + random.uniform(0, faults.jitter_seconds))
