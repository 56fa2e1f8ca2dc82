"""Dramatiq with its own rate limiter: an actor per type, high priorities first, that tries again when it is limited.

Workers: dramatiq benchmarks.rivals.with_dramatiq --processes 20 --threads 5
"""

from __future__ import annotations

import math

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.rate_limits import WindowRateLimiter
from dramatiq.rate_limits.backends import RedisBackend

from benchmarks.rivals.job import Address, Job, await_go, call

#: Milliseconds until an event that found every endpoint full is tried again.
AGAIN_MS = 250

job = Job.read()
broker = RedisBroker(url=job.redis_url)
dramatiq.set_broker(broker)
backend = RedisBackend(url=job.redis_url)


def make_actor(type_name: str, addresses: list[Address], place: int) -> dramatiq.Actor:
    limiters = [  # their windows are whole seconds
        (one, WindowRateLimiter(backend, one.name, limit=one.amount, window=math.ceil(one.seconds)))
        for one in addresses
    ]

    def send(event_id: str) -> None:
        for address, limiter in limiters:
            with limiter.acquire(raise_on_failure=False) as acquired:
                if acquired:
                    if seconds := call(address, event_id, type_name):
                        raise dramatiq.Retry(delay=round(1000 * seconds))
                    return
        raise dramatiq.Retry(delay=AGAIN_MS)

    return dramatiq.actor(send, actor_name=type_name, priority=place, max_retries=None)


actors = {name: make_actor(name, addresses, place) for place, (name, addresses) in enumerate(job.types.items())}


def main() -> None:
    broker.client.ping()
    await_go()
    for event_id, type_name in job.events:
        actors[type_name].send(event_id)


if __name__ == "__main__":
    main()
