"""Dramatiq with its own rate limiter, or that of `limits`: an actor per type, which retries when it is limited.

High priorities go first.

Workers: dramatiq benchmarks.rivals.with_dramatiq --processes 20 --threads 5
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.rate_limits import WindowRateLimiter
from dramatiq.rate_limits.backends import RedisBackend

from benchmarks.rivals.job import Address, Job, await_go, call
from benchmarks.rivals.with_threads import Slots

if TYPE_CHECKING:
    from collections.abc import Callable

#: An event that found every endpoint full is retried so often in a period: with more retries, the thousand waiting
#: events take the processors from events that could be sent; with fewer, slots lie idle.
AGAIN_TIMES = 24
#: A stream that has an entry once the work may begin.
BEGUN = "begun"

job = Job.read()
broker = RedisBroker(url=job.redis_url)
dramatiq.set_broker(broker)
backend = RedisBackend(url=job.redis_url)
slots = Slots(job.redis_url)


@functools.cache
def await_begin() -> None:
    """Hold the first events of a worker, which takes them at once, until the work may begin."""
    while not broker.client.xread({BEGUN: "0"}, block=1000):
        pass


def windows_of(addresses: list[Address]) -> Callable[[], Address | None]:
    """Return a function that takes a slot of the first address with a free one in its own window."""
    limiters = [  # their windows are whole seconds
        (one, WindowRateLimiter(backend, one.name, limit=one.amount, window=math.ceil(one.seconds)))
        for one in addresses
    ]

    def take() -> Address | None:
        for address, limiter in limiters:
            with limiter.acquire(raise_on_failure=False) as acquired:
                if acquired:
                    return address
        return None

    return take


def make_actor(type_name: str, addresses: list[Address], place: int) -> dramatiq.Actor:
    take = functools.partial(slots.take, addresses) if job.moving else windows_of(addresses)
    again_ms = round(1000 * min(one.seconds for one in addresses) / AGAIN_TIMES)

    def send(event_id: str) -> None:
        await_begin()
        address = take()
        if address is None:
            raise dramatiq.Retry(delay=again_ms)
        if seconds := call(address, event_id, type_name):
            raise dramatiq.Retry(delay=round(1000 * seconds))

    return dramatiq.actor(send, actor_name=type_name, priority=place, max_retries=None)


actors = {name: make_actor(name, addresses, place) for place, (name, addresses) in enumerate(job.types.items())}


def main() -> None:
    for event_id, type_name in job.events:
        actors[type_name].send(event_id)
    await_go()
    broker.client.xadd(BEGUN, {"at": "once"})


if __name__ == "__main__":
    main()
