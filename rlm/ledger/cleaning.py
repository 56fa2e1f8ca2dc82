"""Removes what a test left in Redis: all keys of the installation that it made for itself."""

from __future__ import annotations

from rlm.ledger.connect import translated
from rlm.ledger.scripts import CHUNK, ask
from rlm.ledger.store import Store


def remove_keys(store: Store) -> None:
    """Delete all keys of `store`, whose user may look for them (SCAN)."""
    with translated(store.client):
        names = list(store.client.scan_iter(match=f"{store.settings.redis.prefix}[:_]*", count=1000))
    for start in range(0, len(names), CHUNK):
        ask(store.client, "DEL", *names[start : start + CHUNK])
