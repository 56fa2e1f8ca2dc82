"""A ledger as Redis has it, written without the steps that lead there: events in a place, an open run, calls made."""

from __future__ import annotations

from rlm.core.call import CallEnd
from rlm.core.clock import system_clock
from rlm.core.item import type_of
from rlm.core.run import Trigger, new_run
from rlm.ledger.store import Store

#: A type of the built-in configuration, another one, and two endpoints of the first.
TYPE = "REBALANCE_NEEDED"
OTHER_TYPE = "OPEN_ORDER_DETECTED"
ENDPOINT = "rebalance_api"


def put(store: Store, event_id: str, place: str, due: float = 60.0, **fields: str) -> None:
    """Put an event into a place: `ready`, `inflight`, `backoff` (until `due` seconds from now) or `spent`."""
    keys, name = store.keys, type_of(event_id)
    score = fields.setdefault("score", "0")
    store.client.hincrby(keys.totals, f"taken:{name}", 0)
    store.client.hset(keys.event(event_id), mapping={"item": "{}", "wallet": "w", **fields})
    if place == "ready":
        store.client.zadd(keys.ready(name), {event_id: int(score)})
    else:
        at = float("inf") if place == "spent" else store.now_us() + round(due * 1_000_000)
        store.client.zadd(keys.due, {event_id if place == "inflight" else f"later {event_id}": at})


def open_run(store: Store, state: str = "running", **fields: str) -> str:
    """Let a run be open; return its id."""
    now = system_clock.now()
    run_id = new_run(Trigger.MANUAL, now, 1.0, "").id
    known = {
        "run_id": run_id,
        "state": state,
        "trigger": "manual",
        "started_at": repr(now),
        "tick": repr(now),
        "deadline": repr(now + 60.0),
        "deadline_us": str(store.now_us() + 60_000_000),
        "window_seconds": "60.0",
        "revision": store.settings.revision,
    }
    store.client.hset(store.keys.run, mapping=known | fields)
    return run_id


def called(
    store: Store,
    endpoint: str = ENDPOINT,
    ago: float = 0.0,
    *,
    end: CallEnd = CallEnd.COMPLETED,
    run_id: str = "20260101T000000000Z-0000",
    event_id: str = f"i1:{TYPE}",
    seconds: float = 0.1,
    age: float = 0.0,
) -> int:
    """Let a call be in the log that was sent `ago` seconds before now; return when, microseconds of Redis time.

    Those that ended earlier must be written earlier.
    """
    sent_us = store.now_us() - round(ago * 1_000_000)
    ended_ms = (sent_us + round(seconds * 1_000_000)) // 1000
    window_id = store.settings.endpoints[endpoint].window_id if endpoint in store.settings.endpoints else "0" * 16
    times = f"{seconds * 1000:g} {age * 1000:g}"
    words = f"{run_id} {type_of(event_id)} {endpoint} {window_id} {sent_us} {end} {times} {event_id} 1"
    store.client.execute_command("XADD", store.keys.calls, f"{ended_ms}-*", "c", words)
    return sent_us
