"""Every key family, poisoned in every way: another type, garbage, bytes that are not text, absurd numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from rlm.ledger import Store

#: Replacements of a value: no number, no text, negative, too large, NaN.
VALUES = {
    "garbage": b"garbage",
    "undecodable": b"\xff\xfe",
    "negative": b"-1",
    "huge": b"1e300",
    "nan": b"nan",
    "long": b"9223372036854775807",
}
#: Optional fields of a hash.
FIELDS = {
    "health": ("rest_until_us", "held_until_us", "paused_until_us", "probing", "probe_until_us", "failures", "kept_us"),
    "run": ("state", "trigger", "started_at", "deadline", "deadline_us", "window_seconds", "revision", "plan"),
    "event": ("score", "item", "wallet", "claims", "attempt", "tries", "runs", "deaths", "taken_at"),
}
#: The type to poison if a key belongs to one; events of other types continue.
POISONED = "ALPHA"
#: The id of a run that nobody opened, and of an item that nobody pushed.
GHOST_RUN = "20261125T101500123Z-1a2b"
GHOST = "ghost"


@dataclass(frozen=True)
class Poison:
    """One key, poisoned in one way. `named`: `rlm doctor` must name the key."""

    family: str
    how: str
    key: str
    apply: Callable[[redis.Redis], object]
    named: bool = True

    @property
    def name(self) -> str:
        return f"{self.family}-{self.how}"


def families(store: Store, worker: str) -> dict[str, tuple[str, str]]:
    """Return each family with one of its keys, and the key's type."""
    keys, settings = store.keys, store.settings
    endpoint = next(one for one in settings.endpoints.values() if one.budget)
    window, budget = endpoint.window_id, endpoint.budget.window_id
    scheduler = store.leases.holder() or "nobody:1:1"
    run = store.runs.current()
    run_id = run.id if run else GHOST_RUN
    waiting = store.client.zrange(keys.pending(POISONED), 0, 0)
    event = waiting[0].decode(errors="replace") if waiting else f"{GHOST}:{POISONED}"
    zsets = ("pending", "backoff", "spent", "inflight", "retried")
    return {
        "events": (keys.events, "list"),
        "processing": (keys.processing, "list"),
        "failed": (keys.failed, "list"),
        "lease": (keys.lease, "hash"),
        "sequence": (keys.sequence, "string"),
        "epoch": (keys.epoch, "hash"),
        "types": (keys.types, "set"),
        "event": (keys.event(event), "hash"),
        **{name: (getattr(keys, name)(POISONED), "zset") for name in zsets},
        "releases": (keys.releases, "list"),
        "current": (keys.current, "string"),
        "run": (keys.run(run_id), "hash"),
        "tally": (keys.tally(run_id), "hash"),
        "timings": (keys.timings(run_id), "list"),
        "totals": (keys.totals, "hash"),
        "measured": (keys.measured, "hash"),
        "expected": (keys.expected, "hash"),
        "records": (keys.records, "hash"),
        "runs": (keys.runs, "list"),
        "last_tick": (keys.last_tick, "string"),
        "window": (keys.window(window), "list"),
        "moved": (keys.moved(window), "list"),
        "health": (keys.health(window), "hash"),
        "window-budget": (keys.window(budget), "list"),
        "health-budget": (keys.health(budget), "hash"),
        "budgets": (keys.budgets, "hash"),
        "limits": (keys.limits, "hash"),
        "filed": (keys.limits_filed, "hash"),
        "changes": (keys.changes, "list"),
        "wanted": (keys.wanted, "string"),
        "restarts": (keys.restarts, "string"),
        "processes-worker": (keys.processes("worker"), "set"),
        "processes-supervisor": (keys.processes("supervisor"), "set"),
        "processes-scheduler": (keys.processes("scheduler"), "set"),
        "process-worker": (keys.process("worker", worker), "string"),
        "process-scheduler": (keys.process("scheduler", scheduler), "string"),
        "calls": (keys.calls(worker), "hash"),
        "requests": (keys.requests, "list"),
        "dramatiq-queue": (f"{keys.dramatiq}:rlm", "list"),
        "dramatiq-messages": (f"{keys.dramatiq}:rlm.msgs", "hash"),
        "dramatiq-heartbeats": (f"{keys.dramatiq}:__heartbeats__", "zset"),
        "dramatiq-acks": (f"{keys.dramatiq}:__acks__.{worker}.rlm", "set"),
    }


#: Poisoned only with another type: their values are free text, or the broker's own, which others check.
ONLY_TYPE = {"dramatiq-queue", "dramatiq-messages", "dramatiq-heartbeats", "dramatiq-acks"}
#: Rewritten by an announcement every few seconds, whatever their content.
REWRITTEN = {"process-worker", "process-scheduler", "wanted", "expected", "dramatiq-heartbeats"}
#: Exist only while a run is open.
OF_RUN = {"run", "tally", "timings"}
#: Others may write here too, so rubbish in them is not a flaw: dead letters, and ignored entries.
FREE = {"events", "processing", "failed", "requests"}


def all_poisons(store: Store, worker: str) -> Iterator[Poison]:
    """Yield every family in every way, for the present keys of this installation."""
    for family, (key, kind) in families(store, worker).items():
        yield Poison(family, "type", key, _retype(family, key, kind), named=family not in REWRITTEN)
        if family in ONLY_TYPE:
            continue
        for how, value in VALUES.items():
            apply = _write(family, key, kind, value)
            named = family not in REWRITTEN | FREE and how in {"garbage", "undecodable"}
            yield Poison(family, how, key, apply, named=(named and kind != "zset") or family == "event")
    yield Poison("current", "ghost", store.keys.current, lambda client: client.set(store.keys.current, GHOST_RUN))
    year_3000 = lambda client: client.set(store.keys.last_tick, "32503680000.0")  # noqa: E731
    yield Poison("last_tick", "future", store.keys.last_tick, year_3000)
    many = lambda client: client.set(store.keys.wanted, 10**9)  # noqa: E731
    yield Poison("wanted", "many", store.keys.wanted, many, named=False)


def _retype(family: str, key: str, kind: str) -> Callable[[redis.Redis], object]:
    def apply(client: redis.Redis) -> None:
        client.delete(key)
        if kind == "string":
            client.rpush(key, "another type")
        else:
            client.set(key, "another type")
        _make_pending(client, family, key)

    return apply


def _make_pending(client: redis.Redis, family: str, key: str) -> None:
    """Put an event into a place: without one it is not an event."""
    prefix, _, event = key.partition(":event:")
    if family == "event" and event.startswith(GHOST):
        client.zadd(f"{prefix}:pending:{POISONED}", {event: 1.0})


def _write(family: str, key: str, kind: str, value: bytes) -> Callable[[redis.Redis], object]:
    def write_hash(client: redis.Redis) -> None:
        known = FIELDS.get(family.partition("-")[0], ())
        fields = [*client.hkeys(key), *(one.encode() for one in known)]
        client.hset(key, mapping={**dict.fromkeys(fields, value), value: value})
        _make_pending(client, family, key)

    def write_list(client: redis.Redis) -> None:
        client.lpush(key, value)
        client.rpush(key, value)

    def write_zset(client: redis.Redis) -> None:
        client.zadd(key, {value: 1.0, value + b":" + POISONED.encode(): float("-inf"), b"": float("inf")})

    return {
        "string": lambda client: client.set(key, value),
        "hash": write_hash,
        "list": write_list,
        "set": lambda client: client.sadd(key, value, b""),
        "zset": write_zset,
    }[kind]
