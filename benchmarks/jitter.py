"""Twenty workers at full load on a slow network: does the API read any call beyond its limit?

uv run python benchmarks/jitter.py                             # ten minutes at real speed
uv run python benchmarks/jitter.py --speed 10 --seconds 200    # 20 s, time divided by ten

Every call takes up to 0.3 s to the API, the 0.6 of the default guard that a call may take after it has left, and its
answer up to 10 s back, drawn evenly by the seed. Exits with 1 if the API refused a call.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.acceptance.system import System
from tests.faults.api_proxy import ApiProxy

WORKERS = 20
LONGEST_BACK_SECONDS = 10.0
SHARE_OF_GUARD = 0.6


@dataclass(frozen=True)
class Result:
    """The API's view; `margin` is by how much the tightest limit + 1 calls were further apart than a period."""

    seed: int
    seconds: float
    calls: int
    repeated: int
    unanswered: int
    refused: int
    margin: float

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.seconds:.0f} s, {self.calls} calls, {self.refused} refused, "
            f"{self.repeated} repeated, {self.unanswered} without an answer in time; "
            f"limit + 1 calls were read no closer than the period and {self.margin:.3f} s"
        )


def run(directory: Path, *, speed: float, seconds: float, seed: int) -> Result:
    """Keep a system at full load for `seconds` of its own time, which is divided by `speed`."""
    with ExitStack() as stack:
        proxies: list[ApiProxy] = []

        def front(url: str) -> str:
            proxies.append(stack.enter_context(ApiProxy(url, seed=seed)))
            return proxies[0].front

        env = {"RLM_WORKERS__MIN": str(WORKERS), "RLM_WORKERS__MAX": str(WORKERS)}
        system = stack.enter_context(System(directory, speed=speed, ticks=True, env=env, front=front))
        system.api.set_fault("*", slow=0)  # the proxy delays the answers
        proxy = proxies[0]
        proxy.there = SHARE_OF_GUARD * system.settings.run.guard_seconds
        proxy.back = LONGEST_BACK_SECONDS / speed
        per_second = sum(
            one.limit.rules[0].amount / one.limit.rules[0].seconds for one in system.settings.endpoints.values()
        )
        system.push_evenly(int(1.2 * per_second * seconds / speed) + 100, seed=seed)
        system.start_both()
        began = time.monotonic()
        system.store.schedule.request()
        while time.monotonic() - began < seconds / speed:
            time.sleep(0.1)
        took = time.monotonic() - began
        system.stop("scheduler", timeout=60)
        return measured(system, seed, took)


def measured(system: System, seed: int, seconds: float) -> Result:
    """Read the API's log; the proxy kept every call until its answer, so a time-out shows as a repeated call."""
    arrivals = system.api.arrivals
    margin = float("inf")
    for endpoint in system.settings.endpoints.values():
        rule = endpoint.limit.rules[0]
        moments = sorted(one.at for one in arrivals if one.endpoint == endpoint.name)
        pairs = zip(moments, moments[rule.amount :], strict=False)
        margin = min([margin, *(last - first - rule.seconds for first, last in pairs)])
    records = [record for one in system.store.runs.history(100) if (record := system.store.runs.record(one))]
    return Result(
        seed=seed,
        seconds=seconds,
        calls=len(arrivals),
        repeated=len(system.repeats()),
        unanswered=sum(one["errors"] for record in records for one in record["by_endpoint"].values()),
        refused=sum(one.refused for one in system.api.summary().values()),
        margin=margin,
    )


def main() -> int:
    """Run it once and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=600.0, help="of the system's time")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        result = run(Path(directory), speed=given.speed, seconds=given.seconds, seed=given.seed)
    print(result)
    return int(result.refused > 0)


if __name__ == "__main__":
    sys.exit(main())
