"""A whole system whose processes reach Redis through proxies, while the test itself connects directly."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.system import System
from tests.faults.proxy import RedisProxy
from tests.leftbehind import nothing_left_behind
from tests.ownserver import OwnServer
from tests.wait import wait_until

#: Two workers that always exist, and a guard that two busy cores do not exceed.
STEADY = {"RLM_WORKERS__MIN": "2", "RLM_WORKERS__MAX": "2", "RLM_RUN__GUARD_SECONDS": "0.1"}


class Behind(System):
    """A `System` on its own server, reached through proxies: scheduler, supervisor with its workers, a command."""

    def __init__(self, directory: Path, server: OwnServer, proxies: dict[str, RedisProxy], **options: Any) -> None:
        self.server = server
        self.proxies = proxies
        urls = {name: proxy.url for name, proxy in proxies.items()}
        super().__init__(directory, redis_url=server.url, redis_of=urls, **options)

    def start_both(self) -> None:
        """Start a scheduler and a supervisor with its workers; several systems may start at the same time."""
        self.start("scheduler")
        self.start("supervisor")
        self.await_both()

    def await_both(self) -> None:
        """Wait until all processes are ready."""
        least = self.settings.workers.min
        wait_until(lambda: self.store.leases.read().holder, timeout=40, message="a scheduler holds the lease")
        wait_until(lambda: len(self.workers()) >= least, timeout=40, message="the workers are ready")

    def run_through(self, number: int = 5, *, prefix: str, timeout: float = 20.0) -> tuple[list[str], dict[str, Any]]:
        """Push events and complete them in a run, requested as often as needed; return their ids and its record."""
        events = self.push_evenly(number, prefix=prefix)
        request = self.store.schedule.request()
        reply = wait_until(lambda: self.store.schedule.reply(request), timeout=timeout, message="the scheduler answers")
        return events, self.await_record(reply.run_id or reply.open, timeout)

    def assert_slots(self) -> None:
        """Check that each endpoint has had at least as many slots as calls, in the last period."""
        endpoints = self.settings.endpoints.values()
        since = time.monotonic() - min(rule.seconds for one in endpoints for rule in one.limit.rules)
        arrived = Counter(one.endpoint for one in self.api.arrivals if one.accepted and one.at > since)
        for name, endpoint in self.settings.endpoints.items():
            slots = self.store.client.zcard(self.store.keys.window(endpoint.window_id))
            assert slots >= arrived[name], f"{name}: {arrived[name]} calls, {slots} slots"


@contextmanager
def behind_proxies(directory: Path, **options: Any) -> Iterator[Behind]:
    """Yield a running system behind proxies; afterwards remove it, and show its logs."""
    (directory / "redis").mkdir()
    (directory / "rlm").mkdir()
    options.setdefault("env", STEADY)
    with nothing_left_behind(directory), OwnServer(directory / "redis") as server:
        path = server.url.removeprefix("unix://")
        with RedisProxy(path) as one, RedisProxy(path) as other, RedisProxy(path) as third:
            proxies = {"scheduler": one, "supervisor": other, "command": third}
            with Behind(directory / "rlm", server, proxies, **options) as system:
                try:
                    yield system
                finally:
                    for log in sorted(system.directory.glob("*.log")):
                        print(f"--- {log.name}\n{log.read_text(errors='replace')}")
                    for proxy in proxies.values():
                        proxy.disarm()
