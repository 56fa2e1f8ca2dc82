"""Endpoints, budgets and their windows for tests of the store: any limit, any state, passing time."""

from __future__ import annotations

from typing import cast

from rlm.core.endpoint import Budget, Endpoint, Limit, Limited, WindowState
from rlm.ledger.store import Store

#: The fields of an endpoint's health that are moments of Redis time.
_MOMENTS = ("rest", "pause", "known", "since", "opened_us")


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
    slots = cast("list[tuple[bytes, float]]", store.client.zrange(_window(store, limited), 0, -1, withscores=True))
    return [int(stamp) for _, stamp in reversed(slots)]


def record_of(store: Store, limited: Limited) -> dict[str, str]:
    """Read what is known of an endpoint or a budget beside its window."""
    found = cast("dict[bytes, bytes]", store.client.hgetall(store.keys.endpoint(limited.window_id)))
    return {name.decode(): value.decode() for name, value in found.items()}


def set_record(store: Store, limited: Limited, **fields: int | str) -> None:
    """Write fields there."""
    store.client.hset(store.keys.endpoint(limited.window_id), mapping=fields)


def pass_time(store: Store, limited: Limited, seconds: float) -> None:
    """Move all records of an endpoint or budget into the past, as if `seconds` had passed."""
    _move(store, limited, -seconds)
    span = round(seconds * 1_000_000)
    if since := store.client.hget(store.keys.lease, "doubted_us"):
        store.client.hset(store.keys.lease, "doubted_us", int(since) - span)
    known = record_of(store, limited)
    set_record(store, limited, longest=0, **{name: int(known[name]) - span for name in _MOMENTS if name in known})


def _move(store: Store, limited: Limited, seconds: float) -> None:
    key = _window(store, limited)
    for call, stamp in cast("list[tuple[bytes, float]]", store.client.zrange(key, 0, -1, withscores=True)):
        store.client.zadd(key, {call: int(stamp) + round(seconds * 1_000_000)})


def set_limits(store: Store, *limits: tuple[Limited, str]) -> None:
    """Put limits in force."""
    for limited, limit in limits:
        store.client.hset(store.keys.rules, f"limit {limited.window_id}", limit)


def trust(store: Store) -> None:
    """Vouch for the server like a conductor: otherwise it gives no slots."""
    server = store.client.info("server")["run_id"]
    store.client.hset(store.keys.lease, mapping={"server": server, "epoch": 1})


def take(store: Store, endpoint: Endpoint, number: int = 1) -> None:
    """Take slots that must be free."""
    assert [store.windows.take(endpoint) for _ in range(number)] == [0.0] * number


def refusal(store: Store, endpoint: Endpoint) -> float:
    """Ask for a slot that must be refused; return the wait in seconds."""
    wait = store.windows.take(endpoint)
    assert wait
    return wait


def look(store: Store, limited: Limited) -> WindowState:
    """Look at one window."""
    return store.windows.look([limited])[1][limited.name]


def _window(store: Store, limited: Limited) -> str:
    return store.keys.window(limited.window_id)


def rest(store: Store, limited: Limited, seconds: float) -> None:
    """Let an endpoint rest for what it answered."""
    now_us = store.now_us()
    set_record(store, limited, rest=now_us + round(seconds * 1_000_000), since=now_us)


def hold(store: Store, limited: Limited, seconds: float) -> None:
    """Let an endpoint or a budget be held, because its window cannot be trusted."""
    seconds -= limited.limit.longest_seconds + store.settings.run.guard_seconds
    set_record(store, limited, known=store.now_us() + round(seconds * 1_000_000))
