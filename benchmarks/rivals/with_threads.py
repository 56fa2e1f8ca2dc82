"""A pool of threads, or one in each of several processes, and `limits`: a moving window on Redis per endpoint.

A thread takes the next event in order of arrival, and waits until an endpoint of its type has a slot, the primary
before the overflows.
"""

from __future__ import annotations

import math
import multiprocessing
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from limits import RateLimitItemPerSecond
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter

from benchmarks.rivals.job import Job, await_go, call

if TYPE_CHECKING:
    from collections.abc import Iterable
    from multiprocessing.synchronize import Barrier, Event

    from benchmarks.rivals.job import Address


class Slots:
    """The windows of all endpoints."""

    def __init__(self, redis_url: str) -> None:
        self._limiter = MovingWindowRateLimiter(RedisStorage(redis_url))
        self._full_until: dict[str, float] = {}

    def take(self, addresses: Iterable[Address]) -> Address | None:
        """Take a slot at the first address that has one; ask Redis only about those not known to be full."""
        for one in addresses:
            if time.time() < self._full_until.get(one.name, 0):
                continue
            item = RateLimitItemPerSecond(one.amount, math.ceil(one.seconds))  # it takes whole seconds
            if self._limiter.hit(item, one.name):
                return one
            reset_time, remaining = self._limiter.get_window_stats(item, one.name)
            if not remaining:  # otherwise a slot came back since, and the time is another's
                self._full_until[one.name] = reset_time
        return None

    def await_any(self, addresses: Iterable[Address]) -> None:
        """Sleep until one of them may have a slot."""
        opens = min(self._full_until.get(one.name, 0) for one in addresses)
        time.sleep(max(0.001, opens - time.time()))

    def refused(self, address: Address, seconds: float) -> None:
        """Do not call an endpoint that says it is full, whatever the window here says."""
        self._full_until[address.name] = time.time() + seconds


def send_part(job: Job, number: int, ready: Barrier, begun: Event) -> None:
    slots = Slots(job.redis_url)

    def send(event_id: str, type_name: str) -> None:
        addresses = job.types[type_name]
        while True:
            address = slots.take(addresses)
            if address is None:
                slots.await_any(addresses)
            elif seconds := call(address, event_id, type_name):
                slots.refused(address, seconds)
            else:
                return

    ready.wait()
    begun.wait()
    with ThreadPoolExecutor(job.lanes // job.processes) as pool:
        for done in [pool.submit(send, *event) for event in job.events[number :: job.processes]]:
            done.result()


def main() -> None:
    job = Job.read()
    fork = multiprocessing.get_context("fork")
    ready, begun = fork.Barrier(job.processes + 1), fork.Event()
    parts = [fork.Process(target=send_part, args=(job, number, ready, begun)) for number in range(job.processes)]
    for part in parts:
        part.start()
    ready.wait()
    await_go()
    begun.set()
    sys.stdin.read()  # not reaped earlier: their usage is still read


if __name__ == "__main__":
    main()
