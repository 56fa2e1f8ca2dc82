"""What every rival in Python shares: the job it is given, and one call to an endpoint. The rest is its own affair."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

#: Names the file with the job.
VARIABLE = "RIVAL_JOB"

_pool = urllib3.PoolManager(num_pools=4, maxsize=100, retries=False)


@dataclass(frozen=True, slots=True)
class Address:
    """One endpoint: at most `amount` calls in any `seconds`, which a padded variant is given longer than they are."""

    name: str
    url: str
    amount: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Job:
    """Events to be sent (id and type, as they came), and each type's endpoints, the primary first, by priority.

    Where each endpoint has lanes of its own, they are `lanes_each` in number. Threads are shared out to `processes`;
    `moving` is for Dramatiq: it takes its slots from the moving window of `limits`, not from its own.
    """

    redis_url: str
    types: dict[str, list[Address]]
    events: list[tuple[str, str]]
    lanes_each: int
    lanes: int
    processes: int
    moving: bool

    @classmethod
    def read(cls) -> Job:
        """Read the job that the environment names."""
        raw: dict[str, Any] = json.loads(Path(os.environ[VARIABLE]).read_text())
        types = {name: [Address(**one) for one in endpoints] for name, endpoints in raw["types"].items()}
        events = [(event_id, name) for event_id, name in raw["events"]]
        return cls(**{**raw, "types": types, "events": events})

    @property
    def addresses(self) -> dict[str, Address]:
        return {one.name: one for endpoints in self.types.values() for one in endpoints}


def await_go() -> None:
    """Print that all is ready, and wait until the work may begin."""
    print("ready", flush=True)
    input()


def call(address: Address, event_id: str, type_name: str) -> float:
    """Send an event; return 0 when it was taken, else the seconds the endpoint wants left in peace."""
    answer = _pool.request(
        "POST",
        address.url,
        headers={"Content-Type": "application/json", "Idempotency-Key": event_id},
        body=json.dumps({"event_id": event_id, "event_type": type_name}),
    )
    if answer.status == 429:
        return float(answer.headers.get("Retry-After", 1))
    if answer.status != 200:
        raise RuntimeError(f"{address.name} answered {answer.status} for {event_id}")
    return 0.0
