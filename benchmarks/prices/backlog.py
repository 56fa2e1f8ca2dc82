"""The cost of a deep backlog: the first call during its intake, the next run with the rest of it, commands.

uv run python -m benchmarks.prices.backlog [ITEMS]    # a million in about three minutes, 1.5 GB
"""

from __future__ import annotations

import hashlib
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.harness.installation import Installation
from benchmarks.harness.pings import pinged
from benchmarks.harness.usage import cpu_seconds
from rlm.ledger.scripts import SOURCES
from tests.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.ledger import Store

ITEMS = 1_000_000
WORKERS = 4
WINDOW_SECONDS = 60
#: Seconds after which the calls of the first run no longer count; otherwise the next run waits for slots.
PERIOD_SECONDS = 61
#: Items of the audit list to push at a time.
PUSHED = 1000
#: Scripts that take longer are reported, microseconds.
SLOW_US = 5000
COMMANDS = ("status", "queue stats", "queue list 20", "explain")


@dataclass
class Backlog:
    """The results: seconds, MB, milliseconds, and bytes of Redis per item."""

    first_call: float = 0.0
    all_taken: float = 0.0
    calls_meanwhile: int = 0
    scheduler_mb: float = 0.0
    scheduler_seconds: float = 0.0
    redis_seconds: float = 0.0
    pings: int = 0
    usual_ping_ms: float = 0.0
    slowest_ping_ms: float = 0.0
    slowest_ping_server_ms: float = 0.0
    pings_over_20_ms_of_server: int = 0
    fork_ms: float = 0.0
    item_bytes: float = 0.0
    list_bytes: float = 0.0
    ledger_bytes: float = 0.0
    next_first_call: float = 0.0


def item(number: int, types: list[str]) -> bytes:
    """Return an item as the audit system writes it: 186 bytes."""
    return (
        f'{{"id": "{1_703_123_456_789 + number}-{number * 7919:09x}", "wallet_name": "wallet_{number % 1000:03d}", '
        f'"events": ["{types[number % len(types)]}"], "worker_id": "1", "timestamp": "2023-12-21T14:30:25.123Z", '
        f'"priority": 5, "retry_count": 0}}'
    ).encode()


def measure_backlog(number: int) -> tuple[Backlog, dict[str, float]]:
    """Return the cost of a backlog, and the seconds that each command takes with the rest of it."""
    found = Backlog()
    env = {"RLM_RUN__WINDOW_SECONDS": str(WINDOW_SECONDS)}
    with TemporaryDirectory(prefix="rlm-bench-") as name:
        env |= {"RLM_WORKERS__MIN": str(WORKERS), "RLM_WORKERS__MAX": str(WORKERS)}
        with Installation(Path(name), speed=1, env=env) as system:
            system.start_warm()
            store = system.store
            found.item_bytes, found.list_bytes, empty = _push(store, number, list(system.settings.types))
            store.client.config_set("slowlog-log-slower-than", SLOW_US)
            store.client.config_set("slowlog-max-len", 100_000)
            store.client.slowlog_reset()
            with pinged(store.client, store.url) as pings:
                _first_run(system, found)
            found = replace(found, **pings)
            print(*_slow(store), sep="\n", file=sys.stderr)
            found.fork_ms = store.client.info("stats")["latest_fork_usec"] / 1000
            found.ledger_bytes = (store.client.info("memory")["used_memory"] - empty) / number
            found.scheduler_mb = _peak_mb(system.processes["scheduler"].pid)
            took = _commands(system, number)
            time.sleep(PERIOD_SECONDS)
            began, before = time.monotonic(), _slots(store)
            run_id = system.ask_for_run()
            found.next_first_call = _await_call(store, before) - began
            took |= {f"{one}, run open": seconds for one, seconds in _commands(system, number).items()}
            store.runs.cancel(run_id)
            system.await_record(run_id, timeout=WINDOW_SECONDS)
    return found, took


def _push(store: Store, number: int, types: list[str]) -> tuple[float, float, int]:
    empty = store.client.info("memory")["used_memory"]
    for first in range(0, number, PUSHED):
        store.intake.push([item(one, types) for one in range(first, min(number, first + PUSHED))])
    size = len(item(0, types))
    return size, (store.client.info("memory")["used_memory"] - empty) / number, empty


def _first_run(system: Installation, found: Backlog) -> None:
    store, before = system.store, _slots(system.store)
    pids = system.processes["scheduler"].pid, store.client.info("server")["process_id"]
    used = [cpu_seconds([pid]) for pid in pids]
    began = time.monotonic()
    run_id = system.ask_for_run()
    found.first_call = _await_call(store, before) - began
    wait_until(lambda: sum(store.intake.lengths()) == 0, timeout=2 * WINDOW_SECONDS, message="all is taken")
    found.all_taken = time.monotonic() - began
    found.scheduler_seconds, found.redis_seconds = (
        cpu_seconds([pid]) - before_it for pid, before_it in zip(pids, used, strict=True)
    )
    found.calls_meanwhile = _slots(store) - before
    print(found, file=sys.stderr)
    record = system.await_record(run_id, timeout=2 * WINDOW_SECONDS)
    print(record["counts"], record["plan"], file=sys.stderr)


def _slots(store: Store) -> int:
    """Return how many slots were ever taken: a call is sent right after."""
    return int(store.client.hget(store.keys.epoch, "slots") or 0)


def _await_call(store: Store, before: int) -> float:
    wait_until(lambda: _slots(store) > before, timeout=2 * WINDOW_SECONDS, message="a first call is made")
    return time.monotonic()


def _commands(system: Installation, number: int) -> dict[str, float]:
    took = {}
    last = item(number - 1, list(system.settings.types)).split(b'"')[3].decode()
    for command in COMMANDS:
        words = [*command.split(), *([last] if command == "explain" else [])]
        began = time.monotonic()
        system.rlm(*words, "--json")
        took[command] = time.monotonic() - began
    return took


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _slow(store: Store) -> Iterator[str]:
    """Yield what took longer than `SLOW_US`: each command or script, how often, its maximum in milliseconds."""
    names = {hashlib.sha1(source, usedforsecurity=False).hexdigest(): name for name, source in SOURCES.items()}
    took: dict[str, list[float]] = {}
    for one in store.client.slowlog_get(100_000):
        word, *more = one["command"].decode(errors="replace").split(" ")
        took.setdefault(names.get(more[0], more[0]) if word == "EVALSHA" else word, []).append(one["duration"] / 1000)
    for name, durations in sorted(took.items()):
        yield f"{name}: {len(durations)} over {SLOW_US / 1000:g} ms, the longest {max(durations):.1f} ms"


if __name__ == "__main__":
    backlog, commands = measure_backlog(int(sys.argv[1]) if len(sys.argv) > 1 else ITEMS)
    for figure, value in {**asdict(backlog), **commands}.items():
        print(f"{figure:30} {value:,.2f}")
