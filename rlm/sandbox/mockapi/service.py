"""How the mock API handles a request, the arrivals there, and the recount that judges a whole run.

A request is a call to an endpoint, or to one of the mock API's controls under `/_mock`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from io import FileIO
from random import Random
from typing import Any

import msgspec

from rlm.core.clock import Clock
from rlm.core.endpoint import Budget, Endpoint, EventType, Limit, Limited, Rule, all_limited
from rlm.core.errors import ConfigurationError
from rlm.sandbox.mockapi.connection import Received, Reply
from rlm.sandbox.mockapi.endpoint import CONTROL, Faults, NoAnswer, Site, sites_by_path

#: Stands for every endpoint in `set_faults`.
ALL = "*"


class _Call(msgspec.Struct):
    """The fields of a call's body that are used."""

    event_type: Any = None
    attempt: Any = None
    run_id: Any = None


_decode_call = msgspec.json.Decoder(_Call).decode
_decode_faults = msgspec.json.Decoder(dict[str, dict[str, Any]]).decode


class Service:
    """The endpoints of `types`, and all arrivals there."""

    def __init__(self, types: Sequence[EventType], clock: Clock, seed: int | None) -> None:
        self._sites = sites_by_path(types)
        self._by_name = {site.endpoint.name: site for site in self._sites.values()}
        self._clock = clock
        self._random = Random(seed)
        self._arrivals: list[Arrival] = []
        #: Gets a line for each arrival, if there is a log. It is unbuffered, so that it can be followed.
        self._log: FileIO | None = None

    def cuts(self, path: str) -> bool:
        """Return whether the endpoint at this path is down; if so, count the cut connection."""
        site = self._sites.get(path)
        if site is None or not site.faults.down:
            return False
        site.cut += 1
        return True

    def receive(self, request: Received, at: float) -> Reply | NoAnswer:
        """Handle a request whose last byte was read `at` (monotonic seconds)."""
        site = self._sites.get(request.path)
        if site is None:
            return self._control(request)
        if request.method != "POST":
            return Reply(405, {"error": f"{request.path} takes POST only"}, {"Allow": "POST"})
        return self._call(site, request, at)

    def set_faults(self, wanted: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace the faults of each named endpoint, `*` for all; of none if anything is wrong (ConfigurationError)."""
        checked = [(site, Faults.of(fields)) for name, fields in wanted.items() for site in self._named(name)]
        at = self._clock.monotonic()
        for site, faults in checked:
            site.faults, site.faults_set_at = faults, at

    @property
    def arrivals(self) -> list[Arrival]:
        """All arrivals so far, in order; a copy, but the status of its arrivals is still updated."""
        return self._arrivals.copy()

    def faults(self) -> dict[str, Faults]:
        """Return the faults of each endpoint, by name."""
        return {name: site.faults for name, site in self._by_name.items()}

    def summary(self) -> dict[str, EndpointSummary]:
        """Return the summary of each endpoint, by name; safe to call from any thread."""
        return self._summarised(Endpoint)

    def budget_summary(self) -> dict[str, EndpointSummary]:
        """Return the summary of each budget's endpoints together, by name; safe to call from any thread."""
        return self._summarised(Budget)

    def _summarised(self, kind: type[Limited]) -> dict[str, EndpointSummary]:
        endpoints = [site.endpoint for site in self._by_name.values()]
        arrivals = by_limited(self.arrivals, endpoints)
        cut: Counter[str] = Counter()
        for site in self._by_name.values():
            cut.update({one.name: site.cut for one in all_limited([site.endpoint])})
        return {
            one.name: summarise(arrivals[one.name], one.limit, cut[one.name])
            for one in all_limited(endpoints)
            if isinstance(one, kind)
        }

    def _named(self, name: str) -> list[Site]:
        if name == ALL:
            return list(self._by_name.values())
        if name not in self._by_name:
            known = ", ".join(self._by_name)
            raise ConfigurationError(f"there is no endpoint {name!r}; there are {known}, and {ALL} for all of them")
        return [self._by_name[name]]

    def _call(self, site: Site, request: Received, at: float) -> Reply | NoAnswer:
        call = _Call()
        with suppress(msgspec.DecodeError):  # it counts as an arrival even so
            call = _decode_call(request.body)
        accepted, result = site.receive(call.event_type, at, self._random)
        event_id = request.headers.get("idempotency-key")
        arrival = Arrival(at, site.endpoint.name, event_id, call.attempt, call.run_id, None, accepted)
        if isinstance(result, NoAnswer):
            self._note(arrival, None)
            return result
        self._note(arrival, result.status)
        answer: Any = {"endpoint": site.endpoint.name, "event_id": event_id, "status": result.status}
        headers = self._retry_after(site, result.retry_after_seconds)
        if (success := site.endpoint.success) and result.status == HTTPStatus.OK:
            value = True if success.value is None else success.value
            answer = answer | {success.field: value} if success.field else success.value or answer
            headers |= {"Content-Type": success.content_type} if success.content_type else {}
        return Reply(result.status, answer, headers, result.after_seconds, arrival)

    def _note(self, arrival: Arrival, status: int | None) -> None:
        """Keep an arrival. Its line is written at once, so it shows the `status` that the answer is going to have."""
        self._arrivals.append(arrival)
        if self._log:
            self._log.write(msgspec.json.encode(msgspec.structs.replace(arrival, status=status)) + b"\n")

    def _retry_after(self, site: Site, seconds: float | None) -> dict[str, str]:
        if seconds is None or site.faults.retry_after == "none":
            return {}
        whole = max(1, math.ceil(seconds))  # fractions are not allowed, and 0 would cause another refusal
        if site.faults.retry_after == "seconds":
            return {"Retry-After": str(whole)}
        return {"Retry-After": formatdate(math.ceil(self._clock.now()) + whole, usegmt=True)}

    def _control(self, request: Received) -> Reply:
        looks: dict[str, Callable[[], object]] = {
            f"{CONTROL}/log": lambda: self.arrivals,
            f"{CONTROL}/summary": self.summary,
            f"{CONTROL}/budgets": self.budget_summary,
            f"{CONTROL}/faults": self.faults,
        }
        if request.method == "GET" and request.path in looks:
            return Reply(200, looks[request.path]())
        if (request.method, request.path) == ("POST", f"{CONTROL}/faults"):
            return self._post_faults(request.body)
        known = ", ".join(self._sites)
        why = f"there is nothing to {request.method} at {request.path}; the endpoints are {known}"
        return Reply(404, {"error": why})

    def _post_faults(self, body: bytes) -> Reply:
        try:
            self.set_faults(_decode_faults(body))
        except (msgspec.DecodeError, ConfigurationError) as error:
            example = 'write for example {"NAME": {"error_rate": 0.3, "status": 503}}'
            return Reply(400, {"error": f"{error}; {example}"})
        return Reply(200, self.faults())


class Arrival(msgspec.Struct):
    """One call as the server saw it.

    `at` is when its last byte was read, in seconds of this machine's monotonic clock. `event_id` is from the
    `Idempotency-Key`, `attempt` and `run_id` are from the body; None if missing. `status` is None until it is answered,
    if ever. `accepted`: the limit admitted it, and it counts against the limit whatever the answer was.
    """

    at: float
    endpoint: str
    event_id: str | None
    attempt: int | None
    run_id: str | None
    status: int | None
    accepted: bool


class EndpointSummary(msgspec.Struct, frozen=True):
    """The calls at one endpoint, or at all endpoints of one budget.

    `calls` are `accepted` or `refused` (by a limit); `cut` connections were closed before their call was read. `most`
    is the most accepted calls in any period of `limit`; of several rules, by the one that came closest to its amount.
    """

    calls: int
    accepted: int
    refused: int
    cut: int
    most: int
    limit: str


def recount(arrivals: Iterable[Arrival], rule: Rule) -> int:
    """Return the most accepted calls in any period of `rule`, wherever it begins, at one endpoint or budget.

    The fullest period can always be moved so that it ends with an arrival, so only those periods are counted.
    """
    times = sorted(arrival.at for arrival in arrivals if arrival.accepted)
    return max((bisect_right(times, end) - bisect_right(times, end - rule.seconds) for end in times), default=0)


def summarise(arrivals: list[Arrival], limit: Limit, cut: int) -> EndpointSummary:
    """Count the `arrivals` at one endpoint or budget, and recount them against the `limit`."""
    accepted = sum(arrival.accepted for arrival in arrivals)
    counts = ((recount(arrivals, rule), rule.amount) for rule in limit.rules)
    most, _ = max(counts, key=lambda count: count[0] / count[1])
    return EndpointSummary(len(arrivals), accepted, len(arrivals) - accepted, cut, most, limit.text)


def by_limited(arrivals: Iterable[Arrival], endpoints: Collection[Endpoint]) -> dict[str, list[Arrival]]:
    """Return by name the arrivals at each endpoint, and for each budget those at its endpoints."""
    limited = {endpoint.name: all_limited([endpoint]) for endpoint in endpoints}
    found: dict[str, list[Arrival]] = {one.name: [] for one in all_limited(endpoints)}
    for arrival in arrivals:
        for one in limited[arrival.endpoint]:
            found[one.name].append(arrival)
    return found


def exceeded(arrivals: Iterable[Arrival], endpoints: Collection[Endpoint]) -> list[str]:
    """Return a sentence for each rule of an endpoint or budget that accepted more calls than it allows."""
    found = by_limited(arrivals, endpoints)
    return [
        f"{one.name} let {most} calls through in {rule.seconds:g} s, not {rule.amount}"
        for one in all_limited(endpoints)
        for rule in one.limit.rules
        if (most := recount(found[one.name], rule)) > rule.amount
    ]
