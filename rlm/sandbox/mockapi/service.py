"""What the mock API does with a request: a call to an endpoint, or one of its own controls under `/_mock`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from email.utils import formatdate
from io import FileIO
from random import Random
from typing import Any

import msgspec

from rlm.core.clock import Clock
from rlm.core.endpoint import Budget, Endpoint, EventType, Limited, all_limited
from rlm.core.errors import ConfigurationError
from rlm.sandbox.mockapi.arrivals import Arrival, EndpointSummary, by_limited, summarise
from rlm.sandbox.mockapi.connection import Received, Reply
from rlm.sandbox.mockapi.endpoint import CONTROL, Faults, NoAnswer, Site, sites_by_path

#: In `set_faults`, every endpoint.
ALL = "*"


class _Call(msgspec.Struct):
    """The fields of a call's body that are read."""

    event_type: Any = None
    attempt: Any = None
    run_id: Any = None


_decode_call = msgspec.json.Decoder(_Call).decode
_decode_faults = msgspec.json.Decoder(dict[str, dict[str, Any]]).decode


class Service:
    """The endpoints of `types`, and all that arrived there."""

    def __init__(self, types: Sequence[EventType], clock: Clock, seed: int | None) -> None:
        self._sites = sites_by_path(types)
        self._by_name = {site.endpoint.name: site for site in self._sites.values()}
        self._clock = clock
        self._random = Random(seed)
        self._arrivals: list[Arrival] = []
        #: Gets a line for each arrival, if there is one. It is unbuffered, so that it can be followed.
        self._log: FileIO | None = None

    def cuts(self, path: str) -> bool:
        """Return whether the endpoint at this path is down, and count the connection that is cut for it."""
        site = self._sites.get(path)
        if site is None or not site.faults.down:
            return False
        site.cut += 1
        return True

    def receive(self, request: Received, at: float) -> Reply | NoAnswer:
        """Take a request whose last byte was read `at` (monotonic seconds)."""
        site = self._sites.get(request.path)
        if site is None:
            return self._control(request)
        if request.method != "POST":
            return Reply(405, {"error": f"{request.path} takes POST only"}, {"Allow": "POST"})
        return self._call(site, request, at)

    def set_faults(self, wanted: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace the faults of each endpoint named, `*` being all; none if anything is wrong (ConfigurationError)."""
        checked = [(site, Faults.of(fields)) for name, fields in wanted.items() for site in self._named(name)]
        at = self._clock.monotonic()
        for site, faults in checked:
            site.faults, site.faults_set_at = faults, at

    @property
    def arrivals(self) -> list[Arrival]:
        """What has arrived so far, in order; a copy, whose arrivals still learn their status."""
        return self._arrivals.copy()

    def faults(self) -> dict[str, Faults]:
        """Return the faults of each endpoint, by name."""
        return {name: site.faults for name, site in self._by_name.items()}

    def summary(self) -> dict[str, EndpointSummary]:
        """Return what each endpoint saw, by name; safe to call from any thread."""
        return self._summarised(Endpoint)

    def budget_summary(self) -> dict[str, EndpointSummary]:
        """Return what the endpoints of each budget saw together, by its name; safe to call from any thread."""
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
        with suppress(msgspec.DecodeError):  # it arrived all the same
            call = _decode_call(request.body)
        accepted, result = site.receive(call.event_type, at, self._random)
        event_id = request.headers.get("idempotency-key")
        arrival = Arrival(at, site.endpoint.name, event_id, call.attempt, call.run_id, None, accepted)
        if isinstance(result, NoAnswer):
            self._note(arrival, None)
            return result
        self._note(arrival, result.status)
        answer = {"endpoint": site.endpoint.name, "event_id": event_id, "status": result.status}
        headers = self._retry_after(site, result.retry_after_seconds)
        return Reply(result.status, answer, headers, result.after_seconds, arrival)

    def _note(self, arrival: Arrival, status: int | None) -> None:
        """Keep an arrival. Its line is written at once, so it shows the `status` that the answer is going to have."""
        self._arrivals.append(arrival)
        if self._log:
            self._log.write(msgspec.json.encode(msgspec.structs.replace(arrival, status=status)) + b"\n")

    def _retry_after(self, site: Site, seconds: float | None) -> dict[str, str]:
        if seconds is None or site.faults.retry_after == "none":
            return {}
        whole = max(1, math.ceil(seconds))  # a fraction is not allowed, and 0 would provoke the next refusal
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
