"""The mock API with faults, which a test sets for each endpoint."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import Counter
from contextlib import suppress
from typing import Any

import msgspec

from rlm.core.endpoint import Limit, all_limited
from rlm.sandbox.mockapi import MockApi, StrictWindow, recount


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The faults of one endpoint, by default none. Of several faults, the first in this order applies."""

    down: bool = False  #: connections are reset, and calls do not count as arrivals
    throttle: float | None = None  #: every call is answered 429 at once, with this many seconds as `Retry-After`
    reset: bool | float = False  #: the share of calls (true: all) whose connection is reset after reading
    hang: bool | float = False  #: the share of calls (true: all) that are read but never answered
    error_rate: float | None = None  #: the share of calls answered with `status`; None: all, if that is set
    status: int | None = None  #: the status of those; 500 if None
    slow: float = 1.0  #: processing takes this many times as long


class FaultyApi(MockApi):
    """A mock API; `cut` counts the connections reset while an endpoint was down."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.faults = dict.fromkeys(self.sites, Faults())
        self.cut: Counter[str] = Counter()

    def set_fault(self, name: str, **fields: Any) -> None:
        """Replace the faults of an endpoint (`"*"`: of all) by these, the others being those of `Faults`."""
        self.faults |= dict.fromkeys(self.sites if name == "*" else [name], msgspec.convert(fields, Faults))

    def set_limit(self, name: str, limit: str) -> None:
        """Allow less than the configured limit."""
        self.sites[name].windows[0] = StrictWindow(Limit.parse(limit))

    async def handle(self, site, call, streams):
        faults = self.faults[site.endpoint.name]
        if faults.down:
            self.cut[site.endpoint.name] += 1
            reset(streams)
            return False
        arrival, wait = self.arrive(site, call, streams)
        if wait or faults.throttle is not None:
            return self.answer(site, arrival, streams, status=429, rest_seconds=wait or faults.throttle)
        if random.random() < faults.reset:
            reset(streams)
            return False
        if random.random() < faults.hang:
            await streams.reader.read()  # until the client gives up
            return False
        await asyncio.sleep(site.seconds(call.event_type) * faults.slow)
        error_rate = faults.error_rate if faults.error_rate is not None else float(faults.status is not None)
        status = (faults.status or 500) if random.random() < error_rate else 200
        return self.answer(site, arrival, streams, status=status)


def reset(streams):
    """Cut a connection with an RST."""
    with suppress(OSError):  # the client closed first
        streams.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    streams.writer.transport.abort()


def exceeded(arrivals, endpoints):
    """Yield a sentence for each rule of an endpoint or budget that accepted more calls than it allows."""
    for limited in all_limited(endpoints):
        names = {endpoint.name for endpoint in endpoints if limited in (endpoint, endpoint.budget)}
        there = [arrival for arrival in arrivals if arrival.endpoint in names]
        for rule in limited.limit.rules:
            if (most := recount(there, rule)) > rule.amount:
                yield f"{limited.name} let {most} calls through in {rule.seconds:g} s, not {rule.amount}"
