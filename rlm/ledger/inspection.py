"""Inspects the keys of an installation: which are of a wrong type, or have entries that RLM does not write?

Keys are read by name: those that are always the same, and those that follow from types, endpoints, the register of
processes and the open run. None is searched for.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis

from rlm.core.clock import system_clock
from rlm.core.endpoint import all_limited
from rlm.core.errors import StoreError
from rlm.ledger import schema
from rlm.ledger.claims import is_note
from rlm.ledger.connect import text, translated
from rlm.ledger.control import is_change
from rlm.ledger.keys import BROKER, KeyType
from rlm.ledger.processes import Role
from rlm.ledger.scripts import batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rlm.ledger import Store


#: Entries read at either end of a list that is not read as a whole.
ENDS = 50
#: More wrong entries than this, and the key is set aside as a whole.
MOST_ENTRIES = 100
#: A clock that was set back may have left a last tick this far ahead, seconds.
AHEAD_SECONDS = 86_400.0
#: No endpoint rests for longer, except one with a longer period: it may ask for a day.
LONGEST_REST_SECONDS = 31 * 86_400.0

#: The command for the length of each type. It refuses keys of other types, and every user may run it.
_LENGTHS = {
    KeyType.STRING: "STRLEN",
    KeyType.HASH: "HLEN",
    KeyType.LIST: "LLEN",
    KeyType.SET: "SCARD",
    KeyType.ZSET: "ZCARD",
    "stream": "XLEN",
}
#: Families whose keys expire, and what `PTTL` says of one that never does: a worker would be kept free, or taken for
#: living, for ever.
_EXPIRING = {"alone", "process"}
_NEVER = -1
#: Families whose flaws cost the whole key: half of it would say something else.
_WHOLE = {"epoch", "run"}


@dataclass(frozen=True, slots=True)
class KeyFlaw:
    """A key that holds what it cannot. `entries` are the wrong ones; without any the whole key is wrong."""

    family: str
    key: str
    kind: KeyType
    wrong: str
    of: str = ""
    entries: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class _Place:
    """A key to inspect; `of` is whose it is. `test` gets a value, or the field and the value of a hash."""

    family: str
    key: str
    kind: KeyType
    of: str = ""
    test: Callable[..., bool] | None = None


def inspect(store: Store, *, deep: bool, records: bool) -> list[KeyFlaw]:
    """Return what is wrong. Unless `deep`, lists are read at their ends only; `records` only if asked for."""
    now_us = store.now_us()
    places = [*_always(store, now_us), *_of_types(store), *_of_windows(store, now_us)]
    places += _of_processes(store)
    run_id, lost = _open_run(store)
    places += _of_run(store, run_id) if run_id else []
    flaws = _retyped(store, places)
    wrong = {one.key for one in flaws}
    looked_at = [one for one in places if one.key not in wrong and one.test and (records or one.family != "records")]
    flaws += _endless(store, [one for one in places if one.family in _EXPIRING and one.key not in wrong])
    flaws += filter(None, map(_misplaced, looked_at, _read(store, looked_at, deep=deep)))
    return flaws + ([lost] if lost and lost.key not in {one.key for one in flaws} else [])


def _always(store: Store, now_us: int) -> Iterator[_Place]:
    keys, now = store.keys, now_us / 1_000_000
    latest = max(now, system_clock.now()) + max(AHEAD_SECONDS, store.settings.run.every_seconds)
    for name in (keys.processing, keys.failed):
        yield _Place("aside", keys.aside(name), KeyType.LIST, test=schema.is_text)
        for giant in _members(store, keys.aside(name), "LRANGE", 0, -1):
            yield _Place("giant", keys.giant(giant), KeyType.STRING)
    for name in ("events", "processing", "failed", "requests"):
        yield _Place(name, getattr(keys, name), KeyType.LIST)
    for name in ("lease", "quarantine"):
        yield _Place(name, getattr(keys, name), KeyType.HASH)
    for name, kind, test in schema.ALWAYS:
        yield _Place(name, getattr(keys, name), kind, test=test)
    yield _Place("filed", keys.limits_filed, KeyType.HASH, test=schema.both(schema.is_text, schema.is_limit))
    yield _Place("changes", keys.changes, KeyType.LIST, test=is_change)
    yield _Place("last_tick", keys.last_tick, KeyType.STRING, test=lambda raw: schema.is_moment(raw, latest))
    for name, kind in BROKER.items():
        if "WORKER" not in name:
            yield _Place("dramatiq", keys.brokers(name), kind)


def _of_types(store: Store) -> Iterator[_Place]:
    names = [one.name for one in store.settings.event_types]
    with suppress(StoreError):  # that key is a flaw of its own
        names = store.known_types
    for name in names:
        for family in ("pending", "backoff", "spent", "released", "inflight", "retried"):
            yield _Place(family, getattr(store.keys, family)(name), KeyType.ZSET, name)


def _of_windows(store: Store, now_us: int) -> Iterator[_Place]:
    keys, limited = store.keys, list(all_limited(store.settings.endpoints.values()))
    in_force = limited
    with suppress(StoreError, ValueError):  # that key is a flaw of its own
        in_force = list(all_limited(store.endpoints().values()))
    longest = max(one.limit.longest_seconds for one in [*limited, *in_force])
    latest_us = now_us + round(1_000_000 * max(LONGEST_REST_SECONDS, 2 * longest))

    def is_health(field: bytes, value: bytes) -> bool:
        return schema.is_health_field(field, value, latest_us)

    for one in limited:
        yield _Place("window", keys.window(one.window_id), KeyType.LIST, one.name, schema.is_stamp)
        yield _Place("moved", keys.moved(one.window_id), KeyType.LIST, one.name, schema.is_moved)
        yield _Place("health", keys.health(one.window_id), KeyType.HASH, one.name, is_health)


def _of_processes(store: Store) -> Iterator[_Place]:
    keys = store.keys
    for role in Role:
        yield _Place("processes", keys.processes(role), KeyType.SET, test=schema.is_text)
        for one in _members(store, keys.processes(role)):
            yield _Place("process", keys.process(role, one), KeyType.STRING)
            if role is Role.WORKER:
                yield _Place("calls", keys.calls(one), KeyType.HASH, test=schema.both(schema.is_text, is_note))
                yield _Place("alone", keys.alone(one), KeyType.STRING)
                yield _Place("dramatiq", keys.brokers(f"__acks__.{one}.rlm"), KeyType.SET)


def _of_run(store: Store, run_id: str) -> Iterator[_Place]:
    keys = store.keys
    yield _Place("run", keys.run(run_id), KeyType.HASH, run_id)
    yield _Place("tally", keys.tally(run_id), KeyType.HASH, run_id, schema.both(schema.is_text, schema.is_count))
    yield _Place("timings", keys.timings(run_id), KeyType.LIST, run_id, schema.is_completed)


def _open_run(store: Store) -> tuple[str, KeyFlaw | None]:
    """Return the id of the open run, and what is wrong with it if it cannot be read."""
    keys = store.keys
    raw = _asked(store, "GET", keys.current)
    if not isinstance(raw, bytes):
        return "", None
    run_id = text(raw)
    try:
        if store.runs.current() is not None:
            return run_id, None
        if _asked(store, "GET", keys.current) != raw:
            return "", None  # it was closed meanwhile
        flaw = KeyFlaw(
            "current", keys.current, KeyType.STRING, f"names the run {run_id!r}, of which there is nothing", run_id
        )
    except StoreError as error:
        flaw = KeyFlaw("run", keys.run(run_id), KeyType.HASH, f"is no open run ({error})", run_id)
    return (run_id, flaw) if schema.is_run_id(raw) else ("", None)


def _retyped(store: Store, places: Sequence[_Place]) -> list[KeyFlaw]:
    """Find the keys of another type."""
    with translated(store.client):
        pipeline = store.client.pipeline(transaction=False)
        for one in places:
            pipeline.execute_command(_LENGTHS[one.kind], one.key)  # type: ignore[no-untyped-call]
        replies = pipeline.execute(raise_on_error=False)
    found = []
    for one, reply in zip(places, replies, strict=True):
        if isinstance(reply, redis.ResponseError) and "WRONGTYPE" in str(reply):
            wrong = f"is a {_type_of(store, one.key)}, where a {one.kind} is expected"
            found.append(KeyFlaw(one.family, one.key, one.kind, wrong, one.of))
    return found


def _type_of(store: Store, key: str) -> str:
    for kind, command in _LENGTHS.items():
        if not isinstance(_asked(store, command, key), redis.ResponseError):
            return str(kind)
    return "key of some module"


def _endless(store: Store, places: Sequence[_Place]) -> list[KeyFlaw]:
    """Find the keys that never expire, though they should."""
    left = batch(store.client, (("PTTL", one.key) for one in places))
    wrong = "is a string, as it should be, and never expires"
    return [
        KeyFlaw(one.family, one.key, one.kind, wrong, one.of)
        for one, milliseconds in zip(places, left, strict=True)
        if milliseconds == _NEVER
    ]


def _read(store: Store, places: Sequence[_Place], *, deep: bool) -> Iterator[list[tuple[bytes, ...]]]:
    """Read all keys in one round trip: values, and for hashes fields with values."""
    commands = [command for one in places for command in _reading(one, deep=deep)]
    with translated(store.client):
        pipeline = store.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        replies = iter(pipeline.execute(raise_on_error=False))
    for one in places:
        told = [next(replies) for _ in _reading(one, deep=deep)]
        yield [entry for reply in told for entry in _told(reply)]


def _reading(place: _Place, *, deep: bool) -> list[tuple[str | int, ...]]:
    """Return the commands that read a key."""
    if place.kind is KeyType.LIST and not deep:
        return [("LRANGE", place.key, 0, ENDS - 1), ("LRANGE", place.key, -ENDS, -1)]
    return [
        {
            KeyType.STRING: ("GET", place.key),
            KeyType.HASH: ("HGETALL", place.key),
            KeyType.SET: ("SMEMBERS", place.key),
        }.get(place.kind, ("LRANGE", place.key, 0, -1))
    ]


def _told(reply: Any) -> list[tuple[bytes, ...]]:
    if reply is None or isinstance(reply, Exception):  # gone, or of another type by now
        return []
    if isinstance(reply, dict):
        return list(reply.items())
    return [(reply,)] if isinstance(reply, bytes) else [(one,) for one in reply]


def _misplaced(place: _Place, told: Sequence[tuple[bytes, ...]]) -> KeyFlaw | None:
    """Return the entries that do not belong into a key of the right type, if any."""
    bad = tuple(dict.fromkeys(one[0] for one in told if place.test and not place.test(*one)))
    if not bad:
        return None
    whole = place.kind is KeyType.STRING or place.family in _WHOLE or len(bad) > MOST_ENTRIES
    shown = ", ".join(repr(one[:40])[1:] for one in bad[:3])
    wrong = f"is a {place.kind}, as it should be, and holds what it cannot: {shown}"
    return KeyFlaw(place.family, place.key, place.kind, wrong, place.of, () if whole else bad)


def _members(store: Store, key: str, command: str = "SMEMBERS", *args: int) -> list[str]:
    told = _asked(store, command, key, *args)
    return [] if isinstance(told, Exception) else sorted(text(one) for one in told)


def _asked(store: Store, *command: str | int) -> Any:
    """Run a command; return the error if the key is of another type."""
    with translated(store.client):
        try:
            return store.client.execute_command(*command)  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            return error
