"""A thread pool of 100 and `limits`: its moving window on Redis, a window per endpoint.

A thread takes the next event as they came, and waits until an endpoint of its type has a slot, the primary before the
overflows.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from limits import RateLimitItemPerSecond
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter

from benchmarks.rivals.job import Job, await_go, call

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.rivals.job import Address

THREADS = 100


class Slots:
    """The windows of all endpoints."""

    def __init__(self, redis_url: str) -> None:
        self._limiter = MovingWindowRateLimiter(RedisStorage(redis_url))
        self._full_until: dict[str, float] = {}

    def take(self, addresses: Iterable[Address]) -> Address | None:
        """Take a slot at the first that has one; ask Redis only about those not known to be full."""
        for one in addresses:
            if time.time() < self._full_until.get(one.name, 0):
                continue
            item = RateLimitItemPerSecond(one.amount, math.ceil(one.seconds))  # it takes whole seconds
            if self._limiter.hit(item, one.name):
                return one
            reset_time, remaining = self._limiter.get_window_stats(item, one.name)
            if not remaining:  # else a slot has come back since, and the time is that of another
                self._full_until[one.name] = reset_time
        return None

    def await_any(self, addresses: Iterable[Address]) -> None:
        """Sleep until one of them may have a slot."""
        opens = min(self._full_until.get(one.name, 0) for one in addresses)
        time.sleep(max(0.001, opens - time.time()))

    def refused(self, address: Address, seconds: float) -> None:
        """Leave an endpoint in peace that said it is full, whatever the window here says."""
        self._full_until[address.name] = time.time() + seconds


def send_all(job: Job, slots: Slots) -> None:
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

    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(send, *event) for event in job.events]:
            done.result()


def main() -> None:
    job = Job.read()
    slots = Slots(job.redis_url)
    await_go()
    send_all(job, slots)


if __name__ == "__main__":
    main()
