"""Hosts and their ways to endpoints for tests of the store: failing calls, passing time."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rlm.ledger.ways import Failure

if TYPE_CHECKING:
    from rlm.core.endpoint import Endpoint
    from rlm.ledger import Store
    from rlm.ledger.ways import Trouble

#: Hosts.
A, B, C = "host-a", "host-b", "host-c"


def fail(store: Store, endpoint: Endpoint, host: str = A, times: int = 1, **how: bool) -> Trouble:
    """Let calls of a host fail; return the result of the last."""
    failure = Failure("connection refused", **how)
    for _ in range(times - 1):
        store.ways.fail(endpoint, host, failure, 9)
    return store.ways.fail(endpoint, host, failure, 9)


def shut(store: Store, host: str = A) -> list[str]:
    """Return the windows to which a host's way is shut or being probed."""
    found = store.ways.look().get(host)
    return [way.window_id for way in found.shut] if found else []


def pass_time(store: Store, seconds: float) -> None:
    """Move all records of ways into the past, as if `seconds` had passed."""
    client, by_us = store.client, round(seconds * 1_000_000)
    for field, raw in cast("dict[bytes, bytes]", client.hgetall(store.keys.ways)).items():
        words = raw.decode().split(" ")
        moments = (1, 2) if b" " in field else (0, 2)
        moved = [
            str(int(word) - by_us) if place in moments and word != "0" else word for place, word in enumerate(words)
        ]
        client.hset(store.keys.ways, field, " ".join(moved))
    for key in [store.keys.well_hosts, *client.scan_iter(store.keys.well("*"))]:
        for host, at in client.zrange(key, 0, -1, withscores=True):
            client.zadd(key, {host: at - by_us})
