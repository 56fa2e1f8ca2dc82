"""The common part of all rivals in Python: the job, and one call to an endpoint. Each does the rest itself."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

import urllib3

#: Names the file with the job.
VARIABLE = "RIVAL_JOB"

_pool = urllib3.PoolManager(num_pools=4, maxsize=100, retries=False)


class Address(NamedTuple):
    """One endpoint: at most `amount` calls in any `seconds`; a padded variant gets longer seconds."""

    name: str
    url: str
    amount: int
    seconds: float


class Job(NamedTuple):
    """Events to send (id and type, in order of arrival), and each type's endpoints, primary first, by priority.

    If each endpoint has its own lanes, there are `lanes_each`. Threads are divided among `processes`.
    """

    redis_url: str
    types: dict[str, list[Address]]
    events: list[tuple[str, str]]
    lanes_each: int
    lanes: int
    processes: int

    @classmethod
    def read(cls) -> Job:
        """Read the job that the environment names."""
        raw = json.loads(Path(os.environ[VARIABLE]).read_text())
        types = {name: [Address(**end) for end in endpoints] for name, endpoints in raw["types"].items()}
        return cls(**{**raw, "types": types})


def await_go() -> None:
    """Print that everything is ready, and wait until the work may begin."""
    print("ready", flush=True)
    input()


def call(address: Address, event_id: str, type_name: str) -> float:
    """Send an event; return 0 if it was accepted, else the seconds for which the endpoint must not be called."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": event_id}
    body = json.dumps({"event_id": event_id, "event_type": type_name})
    answer = _pool.request("POST", address.url, headers=headers, body=body)
    if answer.status == 429:
        return float(answer.headers.get("Retry-After", 1))
    if answer.status != 200:
        raise RuntimeError(f"{address.name} answered {answer.status} for {event_id}")
    return 0.0
