"""Measures how long Redis makes others wait: `pings.py URL PID` pings it until its input is closed.

For each ping it measures the elapsed time, and the processor time that the server with that pid used meanwhile: on a
machine with other work, only the latter shows how long one command delayed the next. It prints a line of JSON: the
median and the maximum of both in milliseconds, and the number of pings.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import redis

from benchmarks.harness.usage import cpu_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Pause between two pings, seconds.
PAUSE_SECONDS = 0.002


@contextmanager
def pinged(client: redis.Redis, url: str) -> Iterator[dict[str, float]]:
    """Let another process ping the server during the block; the dictionary then has its results."""
    pid = str(client.info("server")["process_id"])
    command = [sys.executable, "-m", "benchmarks.harness.pings", url, pid]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as pinger:
        found: dict[str, float] = {}
        try:
            yield found
        finally:
            told, _ = pinger.communicate(b"")
            found |= json.loads(told)


def main() -> None:
    url, pid = sys.argv[1], int(sys.argv[2])
    passed, used = [], []
    with redis.Redis.from_url(url) as client:
        client.ping()
        while not select.select([sys.stdin], [], [], PAUSE_SECONDS)[0]:
            began, before = time.monotonic(), cpu_seconds([pid])
            client.ping()
            used.append(1000 * (cpu_seconds([pid]) - before))
            passed.append(1000 * (time.monotonic() - began))
    passed.sort()
    used.sort()
    middle = len(used) // 2
    found = {
        "pings": len(used),
        "usual_ping_ms": passed[middle],
        "slowest_ping_ms": passed[-1],
        "slowest_ping_server_ms": used[-1],
        "pings_over_20_ms_of_server": sum(one > 20 for one in used),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
