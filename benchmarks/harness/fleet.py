"""Lanes whose API answers at once: they take turns like workers, so that only Redis and the conductor bind.

python -m benchmarks.harness.fleet CONFIG URL THREADS WORKER_ID...
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.delivery.lane import Lanes
from rlm.delivery.outcome import Delivered
from rlm.ledger import Store
from rlm.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rlm.core.endpoint import Endpoint
    from rlm.delivery.outcome import Outcome

#: Seconds that a lane without a call waits.
IDLE_SECONDS = 0.01


class _Wire:
    """A connection on which nothing can go wrong."""

    def is_usable(self) -> bool:
        return True


class InstantDispatcher:
    """Replaces `rlm.delivery.Dispatcher`: each call is answered well at once. Connections are kept as there."""

    def __init__(self) -> None:
        self._kept: dict[str, list[_Wire]] = {}
        self._lock = threading.Lock()

    def connect(self, endpoint: Endpoint, seconds: float) -> _Wire:  # noqa: ARG002  # the real one's signature
        """Connect."""
        return _Wire()

    def borrow(self, endpoints: Iterable[str]) -> dict[str, _Wire]:
        """Take a kept connection to each origin that has one."""
        with self._lock:
            return {origin: wires.pop() for origin in endpoints if (wires := self._kept.get(origin))}

    def put_back(self, borrowed: Mapping[str, _Wire]) -> None:
        """Put back unused connections."""
        with self._lock:
            for origin, wire in borrowed.items():
                self._kept.setdefault(origin, []).append(wire)

    def keep(self, endpoint: Endpoint, connection: _Wire) -> None:
        """Keep a connection."""
        self.put_back({endpoint.origin: connection})

    def send(self, *_told: Any) -> None:
        """Send."""

    def receive(self, connection: _Wire, endpoint: Endpoint, sent_at: float, gives_up_at: float) -> Outcome:  # noqa: ARG002
        """Return the answer."""
        self.keep(endpoint, connection)
        return Delivered(200, system_clock.monotonic() - sent_at)


def main() -> None:
    """Carry the calls of the open run, whichever it is, until stdin ends; each worker has `THREADS` active lanes."""
    config, url, threads, *workers = sys.argv[1:]
    settings = load_settings(Path(config), {})
    dispatcher = InstantDispatcher()
    over = threading.Event()

    def work(lanes: Lanes, store: Store) -> None:
        while not over.is_set():
            with suppress(StoreError):
                run = store.runs.current()
                if run is not None:
                    lanes.carry(run.id)
            time.sleep(IDLE_SECONDS)

    for worker_id in workers:
        store = Store(settings, url)
        lanes = Lanes(store, settings, dispatcher, worker_id)  # type: ignore[arg-type]  # it replaces the real one
        for _ in range(int(threads)):
            threading.Thread(target=work, args=(lanes, store), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()
    over.set()


if __name__ == "__main__":
    main()
