"""Endpoints, budgets and their windows for tests of the store: any limit, any state, passing time."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rlm.core.endpoint import Budget, Endpoint, Limit
from rlm.ledger.claims import Admitted, Refused

if TYPE_CHECKING:
    from rlm.core.endpoint import Limited
    from rlm.core.window import WindowState
    from rlm.ledger import Store

#: The fields of an endpoint's health that are moments of Redis time.
_MOMENTS = ("rest_until_us", "held_until_us", "paused_until_us", "probe_until_us")
#: The fields there that are not whole numbers.
_WORDS = {b"paused_by", b"paused_at", b"failed_with", b"named"}


def make_endpoint(
    limit: str = "5/minute", name: str = "api", timeout_seconds: float = 10, budget: Budget | None = None
) -> Endpoint:
    """Make an endpoint; another limit and the same name have the same window."""
    return Endpoint(name, f"http://127.0.0.1:1/{name}", Limit.parse(limit), timeout_seconds, budget=budget)


def make_budget(limit: str, name: str = "account") -> Budget:
    """Make a budget; another limit and the same name have the same window."""
    return Budget(name, Limit.parse(limit))


def stamps(store: Store, limited: Limited) -> list[int]:
    """Read all slots of a window, newest first, in microseconds of Redis time."""
    return [int(one) for one in cast("list[bytes]", store.client.lrange(_window(store, limited), 0, -1))]


def health(store: Store, limited: Limited) -> dict[str, int]:
    """Read the known numbers of an endpoint's or budget's health."""
    found = cast("dict[bytes, bytes]", store.client.hgetall(store.keys.health(limited.window_id)))
    return {name.decode(): int(value) for name, value in found.items() if name not in _WORDS}


def set_health(store: Store, limited: Limited, **fields: int) -> None:
    """Write fields of an endpoint's or a budget's health."""
    for name, value in fields.items():
        store.client.hset(store.keys.health(limited.window_id), name, value)


def pass_time(store: Store, limited: Limited, seconds: float) -> None:
    """Move all records of an endpoint or budget into the past, as if `seconds` had passed."""
    _move(store, limited, -seconds)
    if since := store.client.hget(store.keys.lease, "doubted_us"):
        store.client.hset(store.keys.lease, "doubted_us", int(since) - round(seconds * 1_000_000))
    known = health(store, limited)
    for name in _MOMENTS:
        if name in known:
            set_health(store, limited, **{name: known[name] - round(seconds * 1_000_000)})


def set_clock_back(store: Store, limited: Limited, seconds: float) -> None:
    """Move the slots of a window into the future, as after the clock of Redis was set back."""
    _move(store, limited, seconds)


def _move(store: Store, limited: Limited, seconds: float) -> None:
    key = _window(store, limited)
    for index, stamp in enumerate(stamps(store, limited)):
        store.client.lset(key, index, str(stamp + round(seconds * 1_000_000)))


def trust(store: Store) -> None:
    """Vouch for the server like a conductor: otherwise it gives no slots."""
    server = store.client.info("server")["run_id"]
    store.client.hset(store.keys.lease, mapping={"server": server, "epoch": 1})


def take(store: Store, endpoint: Endpoint, number: int = 1) -> list[Admitted]:
    """Take slots that must be free."""
    taken = [store.windows.acquire(endpoint) for _ in range(number)]
    assert all(isinstance(one, Admitted) for one in taken), taken
    return cast("list[Admitted]", taken)


def refusal(store: Store, endpoint: Endpoint) -> float:
    """Ask for a slot that must be refused; return the wait in seconds."""
    refused = store.windows.acquire(endpoint)
    assert isinstance(refused, Refused), refused
    assert refused.retry_after is not None
    return refused.retry_after


def look(store: Store, limited: Limited) -> WindowState:
    """Look at one window."""
    return store.windows.look([limited])[1][limited.name]


def _window(store: Store, limited: Limited) -> str:
    return store.keys.window(limited.window_id)
