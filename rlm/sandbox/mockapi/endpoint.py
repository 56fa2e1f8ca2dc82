"""One endpoint of the mock API: its strict limit, its faults, its processing times, its path."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from enum import Enum, auto
from random import Random
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from rlm.core.endpoint import Endpoint, EventType, Limit
from rlm.core.errors import ConfigurationError

#: The shortest wait, in case floating point rounds one to zero.
_SHORTEST_WAIT = 1e-9

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
Status = Annotated[int, msgspec.Meta(ge=200, le=599)]
#: The path of the mock API's own controls.
CONTROL = "/_mock"


class StrictWindow:
    """The admitted calls of one endpoint, and whether its limit allows one more, without any margin.

    A period is counted backwards from an arrival and excludes its far end: two calls that arrive exactly one period
    apart are not in one period. Refused calls do not count.
    """

    def __init__(self, limit: Limit) -> None:
        self._rules = limit.rules
        self._admitted: deque[float] = deque(maxlen=max(rule.amount for rule in limit.rules))

    def admit(self, at: float) -> bool:
        """Admit or refuse a call that arrived `at` (monotonic seconds, never less than in the last call)."""
        if self.wait_seconds(at) > 0:
            return False
        self._admitted.append(at)
        return True

    def wait_seconds(self, at: float) -> float:
        """Return the seconds from `at` until a call will be admitted; 0 if one would be admitted now."""
        wait = 0.0
        for rule in self._rules:
            if len(self._admitted) < rule.amount:
                continue
            first = self._admitted[-rule.amount]  # the oldest of the calls that use the rule up
            if first > at - rule.seconds:
                wait = max(wait, first + rule.seconds - at, _SHORTEST_WAIT)
        return wait


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The faults of one endpoint, by default none. Of several faults, the first in this order applies."""

    #: Connections are reset before the call is read; it does not count as an arrival.
    down: bool = False
    #: `(start, end)` in seconds since this was set; in between, every call is answered 503 at once.
    outages: tuple[tuple[Amount, Amount], ...] = ()
    #: Every call is answered 429 at once, with this many seconds as `Retry-After`.
    throttle: Amount | None = None
    reset: bool | Share = False  #: the share of calls (true: all) whose connection is reset after reading
    hang: bool | Share = False  #: the share of calls (true: all) that are read but never answered
    #: The share of calls answered with `status`; if None, all of them if `status` is set.
    error_rate: Share | None = None
    status: Status | None = None  #: the status of those; 500 if None
    slow: Amount = 1.0  #: processing takes this many times as long
    #: The form of `Retry-After`, also for this endpoint's limit.
    retry_after: Literal["seconds", "date", "none"] = "seconds"

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Faults:
        """Return the faults in `fields`; raise ConfigurationError, naming what is allowed, if one is invalid."""
        try:
            return msgspec.convert(fields, cls)
        except msgspec.ValidationError as error:
            known = ", ".join(cls.__struct_fields__)
            raise ConfigurationError(f"{dict(fields)!r} is not a fault: {error}; the fields are {known}") from error


class Response(NamedTuple):
    """The call is answered `after_seconds`, with `retry_after_seconds` in a header."""

    status: int
    after_seconds: float = 0.0
    retry_after_seconds: float | None = None


class NoAnswer(Enum):
    """The call is not answered."""

    HANG = auto()
    RESET = auto()


def outcome(faults: Faults, since_set: float, processing_seconds: float, random: Random) -> Response | NoAnswer:
    """Return the response to an admitted call, `since_set` seconds after the outages were set."""
    if any(start <= since_set < end for start, end in faults.outages):
        return Response(503)
    if faults.throttle is not None:
        return Response(429, retry_after_seconds=faults.throttle)
    if random.random() < faults.reset:
        return NoAnswer.RESET
    if random.random() < faults.hang:
        return NoAnswer.HANG
    error_rate = faults.error_rate if faults.error_rate is not None else float(faults.status is not None)
    status = (faults.status or 500) if random.random() < error_rate else 200
    return Response(status, processing_seconds * faults.slow)


class Site:
    """One endpoint of the server. `cut` counts the connections reset while it was down.

    A call takes a slot in its own window and in the `shared` one of its budget, or in neither.
    """

    def __init__(self, endpoint: Endpoint, shared: StrictWindow | None) -> None:
        self.endpoint = endpoint
        self.faults = Faults()
        self.cut = 0
        #: Seconds that a call takes, by event type; a call of an unknown type takes as long as the first.
        self.processing: dict[str, float] = {}
        self._windows = [StrictWindow(endpoint.limit), *([shared] if shared else [])]
        #: When the faults were set: outages count from then.
        self.faults_set_at = 0.0

    def receive(self, event_type: object, at: float, random: Random) -> tuple[bool, Response | NoAnswer]:
        """Return whether the limits admit the call that arrived `at`, and its response."""
        wait = max(window.wait_seconds(at) for window in self._windows)
        if wait > 0:
            return False, Response(429, retry_after_seconds=wait)
        for window in self._windows:
            window.admit(at)
        seconds = self.processing.get(str(event_type), next(iter(self.processing.values())))
        return True, outcome(self.faults, at - self.faults_set_at, seconds, random)


def sites_by_path(types: Iterable[EventType]) -> dict[str, Site]:
    """Return the site of each endpoint by the path of its URL; raise ConfigurationError if two share a path."""
    sites: dict[str, Site] = {}
    shared: dict[str, StrictWindow] = {}
    for event_type in types:
        for endpoint in event_type.endpoints:
            path = unquote(urlsplit(endpoint.url).path) or "/"
            if path == CONTROL or path.startswith(f"{CONTROL}/"):
                raise ConfigurationError(
                    f"endpoint {endpoint.name!r} has the path {path!r}, but {CONTROL} is the mock API's own;"
                    f" give {endpoint.url} another path"
                )
            budget = endpoint.budget
            window = shared.setdefault(budget.name, StrictWindow(budget.limit)) if budget else None
            site = sites.setdefault(path, Site(endpoint, window))
            if site.endpoint.name != endpoint.name:
                raise ConfigurationError(
                    f"endpoints {site.endpoint.name!r} and {endpoint.name!r} have the same path {path!r}, by which the"
                    f" mock API tells them apart; give one of {site.endpoint.url} and {endpoint.url} another path"
                )
            site.processing[event_type.name] = event_type.processing_seconds
    return sites
