"""A pool of threads, or one in each of several processes, and `limits`: a moving window on Redis per endpoint.

A thread takes the next event in order of arrival, and waits until an endpoint of its type has a slot, the primary
before the overflows.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import NamedTuple

import urllib3
from limits import RateLimitItemPerSecond
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter

_pool = urllib3.PoolManager(num_pools=4, maxsize=100, retries=False)


class Address(NamedTuple):
    """One endpoint: at most `amount` calls in any `seconds`; a padded variant gets longer seconds."""

    name: str
    url: str
    amount: int
    seconds: float


class Slots:
    """The windows of all endpoints."""

    def __init__(self, redis_url: str) -> None:
        self._limiter = MovingWindowRateLimiter(RedisStorage(redis_url))
        self._full_until: dict[str, float] = {}

    def take(self, addresses: list[Address]) -> Address:
        """Take a slot at the first address that has one; ask Redis only about those not known to be full."""
        while True:
            for address in addresses:
                if time.time() < self._full_until.get(address.name, 0):
                    continue
                item = RateLimitItemPerSecond(address.amount, math.ceil(address.seconds))  # it takes whole seconds
                if self._limiter.hit(item, address.name):
                    return address
                reset_time, remaining = self._limiter.get_window_stats(item, address.name)
                if not remaining:  # otherwise a slot came back since, and the time is another's
                    self._full_until[address.name] = reset_time
            opens = min(self._full_until.get(address.name, 0) for address in addresses)
            time.sleep(max(0.001, opens - time.time()))

    def refused(self, address: Address, seconds: float) -> None:
        """Do not call an endpoint that says it is full, whatever the window here says."""
        self._full_until[address.name] = time.time() + seconds


def send_part(job: dict, number: int, ready: Barrier, begun: Event) -> None:
    slots = Slots(job["redis_url"])
    types = {name: [Address(**end) for end in endpoints] for name, endpoints in job["types"].items()}

    def send(event_id: str, type_name: str) -> None:
        headers = {"Content-Type": "application/json", "Idempotency-Key": event_id}
        body = json.dumps({"event_id": event_id, "event_type": type_name})
        while True:
            address = slots.take(types[type_name])
            answer = _pool.request("POST", address.url, headers=headers, body=body)
            if answer.status == 200:
                return
            slots.refused(address, float(answer.headers["Retry-After"]))

    ready.wait()
    begun.wait()
    with ThreadPoolExecutor(job["lanes"] // job["processes"]) as pool:
        for done in [pool.submit(send, *event) for event in job["events"][number :: job["processes"]]]:
            done.result()


def main() -> None:
    job = json.loads(Path(os.environ["RIVAL_JOB"]).read_text())
    fork = multiprocessing.get_context("fork")
    ready, begun = fork.Barrier(job["processes"] + 1), fork.Event()
    for number in range(job["processes"]):
        fork.Process(target=send_part, args=(job, number, ready, begun)).start()
    ready.wait()
    print("ready", flush=True)
    input()
    begun.set()
    sys.stdin.read()  # not reaped earlier: their usage is still read


if __name__ == "__main__":
    main()
