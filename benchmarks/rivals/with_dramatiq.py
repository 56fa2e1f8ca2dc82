"""Dramatiq with the moving window of `limits`: an actor per type, which retries when it is limited.

Workers: dramatiq benchmarks.rivals.with_dramatiq --processes 4 --threads 5
"""

from __future__ import annotations

import functools

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.rivals.job import Address, Job, await_go, call
from benchmarks.rivals.with_threads import Slots

#: A stream that has an entry once the work may begin.
BEGUN = "begun"

job = Job.read()
broker = RedisBroker(url=job.redis_url)
dramatiq.set_broker(broker)
slots = Slots(job.redis_url)


@functools.cache
def await_begin() -> None:
    """Hold the first events of a worker, which takes them at once, until the work may begin."""
    while not broker.client.xread({BEGUN: "0"}, block=1000):
        pass


def make_actor(type_name: str, addresses: list[Address], place: int) -> dramatiq.Actor:
    def send(event_id: str) -> None:
        await_begin()
        address = slots.take(addresses)
        if address is None:
            raise dramatiq.Retry(delay=100)
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
