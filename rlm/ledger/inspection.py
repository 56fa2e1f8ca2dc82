"""Names the keys that hold what RLM does not write: another Redis type, or no number where one is needed.

Keys are found by name: the fixed ones, and those of types, endpoints, processes and the open run. There is no key scan.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import redis

from rlm.core.endpoint import all_limited
from rlm.core.errors import StoreGarbledError
from rlm.core.text import safe_line
from rlm.ledger.connect import text, translated
from rlm.ledger.keys import KINDS, KeyType
from rlm.ledger.processes import Role
from rlm.ledger.runs import DAMAGED, read_record
from rlm.ledger.scripts import Command, ask
from rlm.ledger.values import duration, moment, number, whole

if TYPE_CHECKING:
    from rlm.ledger.store import Store

#: The command for the length of each type. It refuses keys of other types, and every user may run it.
_LENGTHS = {
    KeyType.STRING: "STRLEN",
    KeyType.HASH: "HLEN",
    KeyType.LIST: "LLEN",
    KeyType.SET: "SCARD",
    KeyType.ZSET: "ZCARD",
    KeyType.STREAM: "XLEN",
}
#: The fields of a hash that hold numbers.
_NUMBERS = re.compile(
    rb"(?:\w+_us|rest|pause|hold|longest|since|asked|failures|refusals|paused_at|token|(?:taken|carried|completed|failed):.*)"
)


class KeyFlaw(msgspec.Struct, frozen=True):
    """A key with a flaw, in words, and the event types that are left out until it is mended; empty: it concerns all."""

    key: str
    wrong: str
    types: frozenset[str] = frozenset()


#: How the values of a family are read, where anything else would stop something.
_VALUES: Mapping[str, Callable[[bytes], object]] = {
    **dict.fromkeys(("sequence", "wanted", "restarts"), whole),
    "last_tick": moment,
    "coming_up": duration,
}
#: The hashes whose numbers are read.
_COUNTED = frozenset({"endpoint", "tally", "lease"})


def inspect(store: Store) -> list[KeyFlaw]:
    """Return all flaws, but for those of records."""
    places = list(dict.fromkeys(_places(store)))
    with translated(store.client):
        pipeline = store.client.pipeline(transaction=False)
        for family, key, _ in places:
            pipeline.execute_command(*_question(family, key))  # type: ignore[no-untyped-call]
        replies = pipeline.execute(raise_on_error=False)
    found = [
        KeyFlaw(key, wrong, types)
        for (family, key, types), reply in zip(places, replies, strict=True)
        if (wrong := _wrong(family, reply))
    ]
    return [*found, *_lost_run(store)]


def _places(store: Store) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Yield the keys to inspect: family, key, and the types that depend on it."""
    keys = store.keys
    for family in KINDS:
        if isinstance(key := getattr(keys, family), str):
            yield family, key, frozenset()
    for name in {*store.settings.types, *_members(store, keys.types)}:
        for family in ("ready", "free"):
            yield family, getattr(keys, family)(name), frozenset({name})
    for window_id, users in _users(store).items():
        for family in ("window", "endpoint"):
            yield family, getattr(keys, family)(window_id), frozenset(users)
    yield from (("processes", keys.processes(role), frozenset()) for role in Role)
    yield from (("held", keys.held(one), frozenset()) for one in _members(store, keys.processes(Role.WORKER)))


def _users(store: Store) -> dict[str, set[str]]:
    """Return the types that use each window."""
    users: dict[str, set[str]] = {}
    for kind in store.settings.event_types:
        for one in all_limited(kind.endpoints):
            users.setdefault(one.window_id, set()).add(kind.name)
    return users


def _members(store: Store, key: str) -> list[str]:
    return list(map(text, _answer(store, "SMEMBERS", key) or ()))


def _question(family: str, key: str) -> Command:
    if family in _COUNTED:
        return "HGETALL", key
    return "GET" if family in _VALUES else _LENGTHS[_kind(family)], key


def _kind(family: str) -> KeyType:
    return KINDS[family]


def _wrong(family: str, reply: Any) -> str:
    """Return what is wrong with a key, '' if nothing is."""
    if isinstance(reply, redis.ResponseError):
        return f"is no {_kind(family)}" if "WRONGTYPE" in str(reply) else ""
    read = _VALUES.get(family, number)
    values: Iterable[bytes] = [reply] if isinstance(reply, bytes) else ()
    if isinstance(reply, dict):
        values = [raw for name, raw in reply.items() if family not in _COUNTED or _NUMBERS.fullmatch(name)]
    bad = [raw for raw in values if not _reads(read, raw)]
    return f"holds {safe_line(repr(bad[0][:40])[1:])}, which RLM does not write" if bad else ""


def _reads(read: Callable[[bytes], object], raw: bytes) -> bool:
    try:
        read(raw)
    except (ValueError, ArithmeticError):
        return False
    return True


def _lost_run(store: Store) -> Iterator[KeyFlaw]:
    try:
        run = store.runs.current()
    except StoreGarbledError:  # its key has a flaw of its own
        return
    if run is not None and run.failure.startswith(DAMAGED):
        yield KeyFlaw(store.keys.run, run.failure)


def bad_records(store: Store) -> Iterator[KeyFlaw]:
    """Yield a flaw for each record of a run that is none."""
    found = _answer(store, "HGETALL", store.keys.records)
    for run_id, raw in found.items() if isinstance(found, dict) else ():
        if read_record(text(run_id), raw) is None:
            yield KeyFlaw(store.keys.records, f"holds no record of run {safe_line(text(run_id))}")


def no_audit_list(store: Store) -> str:
    """Return what is wrong with the key of the audit list, which is of another type."""
    return f"the audit list {store.keys.events} (queue.events) is no list"


def _answer(store: Store, *command: str) -> Any:
    """Run a command; return None if the key has another type."""
    try:
        return ask(store.client, *command)
    except StoreGarbledError:
        return None


def left_out(flaws: Sequence[KeyFlaw]) -> frozenset[str]:
    """Return the types that are left out because of these flaws."""
    return frozenset().union(*(one.types for one in flaws))
