"""Watches the drain of the intake: how long RLM held Redis up, and how much memory the drain took.

The drain runs in its own process, so that the memory is RLM's alone. Delays of Redis are read from its slow log, for
scripts, which only RLM runs here, and measured by a client in another process that only pings.
"""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.store import steps

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from rlm.ledger import Store

#: Microseconds from which a command counts as slow.
SLOW_US = 5000


@dataclass
class Strain:
    """The longest script and the longest ping during a drain, seconds; the drain's first and maximum memory."""

    script: float = 0.0
    ping: float = 0.0
    first_bytes: int = 0
    most_bytes: int = 0

    def __str__(self) -> str:
        """Format it for a person."""
        held = f"longest script {self.script * 1000:.1f} ms, longest ping {self.ping * 1000:.1f} ms"
        return f"{held}; memory of the drain {self.first_bytes / 1e6:.0f} MB, at most {self.most_bytes / 1e6:.0f} MB"


class Onlooker:
    """Drains in another process and watches it: `drain` is the function for `tests.fuzz.intake.fuzz`."""

    def __init__(self, store: Store, config: Path) -> None:
        self.strain = Strain()
        self._store = store
        context = multiprocessing.get_context("spawn")
        self._drainer, drainer = context.Pipe()
        self._pinger, pinger = context.Pipe()
        given = (str(config), store.url)
        self._processes = [
            context.Process(target=_drain_when_told, args=(drainer, *given)),
            context.Process(target=_ping_when_told, args=(pinger, *given)),
        ]
        store.client.config_set("slowlog-log-slower-than", SLOW_US)
        for process in self._processes:
            process.start()

    def drain(self, token: int, run_id: str) -> int:
        """Drain, and record the measurements."""
        self._store.client.slowlog_reset()
        self._pinger.send("begin")
        self._drainer.send((token, run_id))
        taken, memory = self._drainer.recv()
        self._pinger.send("end")
        strain = self.strain
        strain.ping = max(strain.ping, self._pinger.recv())
        logged: list[Any] = self._store.client.slowlog_get(1000)
        scripts = [one["duration"] / 1e6 for one in logged if one["command"].upper().startswith(b"EVALSHA")]
        strain.script = max(strain.script, *scripts, 0.0)
        strain.first_bytes = strain.first_bytes or memory
        strain.most_bytes = memory
        return int(taken)

    def close(self) -> None:
        """End the processes."""
        for connection, process in zip((self._drainer, self._pinger), self._processes, strict=True):
            connection.close()
            process.join()


def _store_of(config: str, url: str) -> Store:
    from rlm.ledger import Store
    from rlm.settings import load_settings

    return Store(load_settings(Path(config), {}), url)


def _drain_when_told(told: Connection, config: str, url: str) -> None:
    store = _store_of(config, url)
    while True:
        try:
            token, run_id = told.recv()
        except EOFError:
            return
        taken = sum(store.intake.drain(token, run_id, steps.priorities(store)))
        told.send((taken, _most_bytes()))


def _most_bytes() -> int:
    """Return the maximum memory of this process; `getrusage` may return that of its parent."""
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _ping_when_told(told: Connection, config: str, url: str) -> None:
    store = _store_of(config, url)
    while True:
        try:
            told.recv()
        except EOFError:
            return
        longest = 0.0
        while not told.poll(0.002):
            began = time.monotonic()
            store.client.ping()
            longest = max(longest, time.monotonic() - began)
        told.recv()
        told.send(longest)
