"""Removes what a test left in Redis: all keys of the installation that it made for itself."""

from __future__ import annotations

from collections.abc import Iterator

from rlm.core.endpoint import all_limited
from rlm.core.errors import StoreForbiddenError
from rlm.ledger import Store
from rlm.ledger.connect import text, translated
from rlm.ledger.processes import Role
from rlm.ledger.scripts import CHUNK, ask, batch


def remove_keys(store: Store) -> None:
    """Delete all keys of `store`. If its user may not look for keys (SCAN), those that expire by themselves stay."""
    try:
        with translated(store.client):
            names = list(map(text, store.client.scan_iter(match=f"{store.settings.redis.prefix}[:_]*", count=1000)))
    except StoreForbiddenError:
        names = list(_names_of(store))
    for start in range(0, len(names), CHUNK):
        ask(store.client, "DEL", *names[start : start + CHUNK])


def _names_of(store: Store) -> Iterator[str]:
    """Yield every key that the installation may have, by what its own keys hold."""
    keys = store.keys
    zsets = [keys.inflight, keys.backoff, *map(keys.ready, store.known_types)]
    events = batch(store.client, [("ZRANGE", key, 0, -1) for key in zsets])
    yield from (value for name, value in vars(keys).items() if isinstance(value, str) and name != "prefix")
    yield from zsets
    yield from map(keys.free, store.known_types)
    yield from (keys.event(text(one)) for ids in events for one in ids)
    for role in Role:
        yield keys.processes(role)
        yield from (keys.process(role, one) for one in store.processes.heard(role))
    for worker in store.processes.heard(Role.WORKER):
        yield keys.held(worker)
    for one in all_limited(store.settings.endpoints.values()):
        yield from (keys.window(one.window_id), keys.endpoint(one.window_id))
