"""Inspects the keys of an installation for wrong types and for entries that RLM does not write.

Keys are read by name: the fixed ones, and those that follow from types, endpoints, the register of processes and the
open run. There is no key scan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import redis

from rlm.core.clock import system_clock
from rlm.core.endpoint import all_limited
from rlm.core.errors import StoreError, StoreGarbledError
from rlm.ledger import Store
from rlm.ledger.connect import MICROSECONDS, text, translated
from rlm.ledger.keys import BROKER, KeyType
from rlm.ledger.processes import Role
from rlm.ledger.schema import ZSETS, Test, families, is_run_id
from rlm.ledger.scripts import Command, ask

#: Entries read at each end of a list that is not read completely.
ENDS = 50
#: With more wrong entries than this, the whole key is set aside.
MOST_ENTRIES = 100
#: If the clock was set back, the last tick may be this far in the future, seconds.
AHEAD_SECONDS = 86_400.0
#: The longest rest of an endpoint, except one with a longer period; an endpoint may ask for a day.
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
#: Families whose keys must expire, and what `PTTL` returns for a key that never does; its process would seem alive for
#: ever.
_EXPIRING = {"process"}
_NEVER = -1
#: Families in which a flaw costs the whole key, because half of it would mean something else.
_WHOLE = {"epoch", "run"}


class KeyFlaw(msgspec.Struct, frozen=True):
    """A key with a flaw; `of` is its owner. Without wrong `entries` the whole key is wrong."""

    family: str
    key: str
    of: str
    kind: KeyType
    wrong: str
    entries: tuple[bytes, ...] = ()


class _Place(NamedTuple):
    """A key to inspect; `of` is its owner."""

    family: str
    key: str
    of: str
    kind: KeyType
    test: Test | None

    def flaw(self, wrong: str, entries: tuple[bytes, ...] = ()) -> KeyFlaw:
        return KeyFlaw(*self[:4], wrong, entries)


def inspect(store: Store, *, deep: bool, records: bool) -> list[KeyFlaw]:
    """Return all flaws. Unless `deep`, only the ends of lists are read; `records` are read only on request."""
    now_us = store.now_us()
    latest = max(now_us / MICROSECONDS, system_clock.now()) + max(AHEAD_SECONDS, store.settings.run.every_seconds)
    rest_seconds = max(LONGEST_REST_SECONDS, 2 * _longest_period(store))
    known = families(latest, now_us + round(MICROSECONDS * rest_seconds))
    run_id, lost = _open_run(store)
    places = [_Place(family, key, of, *known[family]) for family, key, of in _spelled(store, known, run_id)]
    commands = [_asking(one, deep=deep, records=records) for one in places]
    with translated(store.client):
        pipeline = store.client.pipeline(transaction=False)
        for command in chain.from_iterable(commands):
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        replies = iter(pipeline.execute(raise_on_error=False))
    looked = (_flaw(store, one, [next(replies) for _ in asked]) for one, asked in zip(places, commands, strict=True))
    flaws = [one for one in looked if one]
    return flaws + ([lost] if lost and lost.key not in {one.key for one in flaws} else [])


def _longest_period(store: Store) -> float:
    limited = list(all_limited(store.settings.endpoints.values()))
    with suppress(StoreError, ValueError):  # that key is reported as its own flaw
        limited += all_limited(store.endpoints().values())
    return max(one.limit.longest_seconds for one in limited)


def _spelled(store: Store, known: Iterable[str], run_id: str) -> Iterator[tuple[str, str, str]]:
    """Yield the keys to inspect: family, key and owner."""
    keys = store.keys
    for family in known:
        if isinstance(key := getattr(keys, family, None), str):
            yield family, key, ""
    yield from ((f"dramatiq:{name}", keys.brokers(name), "") for name in BROKER if "WORKER" not in name)
    names = [one.name for one in store.settings.event_types]
    with suppress(StoreError):  # that key is reported as its own flaw
        names = store.known_types
    yield from ((family, getattr(keys, family)(name), name) for name in names for family in ZSETS)
    for one in all_limited(store.settings.endpoints.values()):
        families_of = ("window", "moved", "health", "well")
        yield from ((family, getattr(keys, family)(one.window_id), one.name) for family in families_of)
    for role in Role:
        yield "processes", keys.processes(role), ""
        for process in _members(store, keys.processes(role)):
            yield "process", keys.process(role, process), ""
            if role is Role.WORKER:
                yield "calls", keys.calls(process), ""
                yield "dramatiq:__acks__.WORKER.rlm", keys.brokers(f"__acks__.{process}.rlm"), ""
    if run_id:
        yield from ((family, getattr(keys, family)(run_id), run_id) for family in ("run", "tally", "timings"))


def _open_run(store: Store) -> tuple[str, KeyFlaw | None]:
    """Return the id of the open run, and its flaw if it cannot be read."""
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
        wrong = f"names the run {run_id!r}, of which nothing is kept"
        flaw = KeyFlaw("current", keys.current, run_id, KeyType.STRING, wrong)
    except StoreError as error:
        flaw = KeyFlaw("run", keys.run(run_id), run_id, KeyType.HASH, f"is not an open run ({error})")
    return (run_id, flaw) if is_run_id(raw) else ("", None)


def _asking(place: _Place, *, deep: bool, records: bool) -> list[Command]:
    """Return the commands that read a key; its length suffices if its entries are not tested."""
    length, key = (_LENGTHS[place.kind], place.key), place.key
    if place.family in _EXPIRING:
        return [length, ("PTTL", key)]
    if place.test is None or (place.family == "records" and not records):
        return [length]
    if place.kind is KeyType.LIST:
        return [("LRANGE", key, 0, -1)] if deep else [("LRANGE", key, 0, ENDS - 1), ("LRANGE", key, -ENDS, -1)]
    return [({KeyType.STRING: "GET", KeyType.HASH: "HGETALL", KeyType.SET: "SMEMBERS"}[place.kind], key)]


def _flaw(store: Store, place: _Place, replies: Sequence[Any]) -> KeyFlaw | None:
    """Return the flaw that the replies about a key show: in its type, its expiry or its entries."""
    if any(isinstance(one, redis.ResponseError) and "WRONGTYPE" in str(one) for one in replies):
        return place.flaw(_wrong_kind(store, place.key, place.kind))
    if place.family in _EXPIRING:
        return place.flaw("is a string, as it should be, but never expires") if replies[-1] == _NEVER else None
    told = [entry for reply in replies for entry in _told(reply)]
    bad = tuple(dict.fromkeys(one[0] for one in told if place.test and not place.test(*one)))
    if not bad:
        return None
    whole = place.kind is KeyType.STRING or place.family in _WHOLE or len(bad) > MOST_ENTRIES
    shown = ", ".join(repr(one[:40])[1:] for one in bad[:3])
    return place.flaw(f"is a {place.kind}, as it should be, but has invalid content: {shown}", () if whole else bad)


def no_audit_list(store: Store) -> str:
    """Return what is wrong with the key of the audit list, which is of another type."""
    return f"the audit list {store.keys.events} (queue.events) {_wrong_kind(store, store.keys.events, KeyType.LIST)}"


def _wrong_kind(store: Store, key: str, kind: KeyType) -> str:
    return f"is a {_type_of(store, key)}, where a {kind} is expected"


def _type_of(store: Store, key: str) -> str:
    for kind, command in _LENGTHS.items():
        if not isinstance(_asked(store, command, key), StoreGarbledError):
            return str(kind)
    return "key of some module"


def _told(reply: Any) -> list[tuple[bytes, ...]]:
    """Return values or (field, value) pairs; empty for a missing key and for a length."""
    if isinstance(reply, dict):
        return list(reply.items())
    if isinstance(reply, list | set):
        return [(one,) for one in reply]
    return [(reply,)] if isinstance(reply, bytes) else []


def _members(store: Store, key: str, command: str = "SMEMBERS", *args: int) -> list[str]:
    told = _asked(store, command, key, *args)
    return [] if isinstance(told, StoreGarbledError) else sorted(map(text, told))


def _asked(store: Store, *command: str | int) -> Any:
    """Run a command; return the error if the key has another type."""
    try:
        return ask(store.client, *command)
    except StoreGarbledError as error:
        return error
