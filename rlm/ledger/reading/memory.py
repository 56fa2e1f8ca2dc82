"""Reads how quickly Redis answers and how much memory it uses."""

from __future__ import annotations

from typing import Final, NamedTuple

from rlm.core.clock import system_clock
from rlm.ledger import Store

_MILLISECONDS: Final = 1000


class ServerState(NamedTuple):
    """How long Redis takes to answer, and the memory that it uses and may use; 0 means as much as there is."""

    ping_ms: float
    used_bytes: int
    max_bytes: int


def server_state(store: Store) -> ServerState:
    """Read the state of the server now."""
    began = system_clock.monotonic()
    store.ping()
    took = system_clock.monotonic() - began
    memory = store.client.info("memory")
    return ServerState(
        round(took * _MILLISECONDS, 1), int(memory.get("used_memory", 0)), int(memory.get("maxmemory", 0))
    )
