"""The schema of keys: the type of each family, and a test of whether an entry may have been written by RLM."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import msgspec

from rlm.core.endpoint import Limit
from rlm.core.expected import Measured
from rlm.core.item import is_type_name
from rlm.ledger.claims import is_note
from rlm.ledger.control import Change
from rlm.ledger.keys import BROKER, KeyType
from rlm.ledger.measures import read_completed, read_expected
from rlm.ledger.turns import Release
from rlm.ledger.ways import is_state, read_way

#: The test of an entry; for a hash it gets a field and its value.
Test: TypeAlias = "Callable[..., bool]"
_T = TypeVar("_T")

#: The highest possible number of wanted workers.
MOST_WORKERS = 1_000_000
#: Above this, numbers in Redis, Lua and JSON are not exact integers.
MOST = 2**53
#: The longest possible call, milliseconds.
LONGEST_CALL_MS = 86_400_000.0
#: What a record must have to be shown.
RECORD = ("run_id", "state", "started_at", "finished_at", "duration_seconds", "counts", "by_type", "by_endpoint")
#: The families of a type's sorted sets.
ZSETS = ("pending", "backoff", "spent", "inflight", "retried")


def is_run_id(raw: bytes) -> bool:
    """Return whether this may be the id of a run."""
    return re.fullmatch(rb"[!-~]{1,100}", raw) is not None


def is_record(raw: bytes) -> bool:
    """Return whether this is the record of a run, or at least has the parts that all readers need."""
    found: dict[str, Any] | None = _decoded(raw, dict)
    return found is not None and all(name in found for name in RECORD) and isinstance(found["counts"], dict)


def _decoded(raw: bytes, kind: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (ValueError, RecursionError):
        return None


def _reads(read: Callable[[], object]) -> bool:
    try:
        read()
    except (ValueError, OverflowError):
        return False
    return True


def _is_text(raw: bytes) -> bool:
    return _reads(raw.decode)


def _is_whole(raw: bytes) -> bool:
    return re.fullmatch(rb"-?\d{1,16}", raw) is not None and abs(int(raw)) < MOST


def _is_count(raw: bytes) -> bool:
    return _is_whole(raw) and int(raw) >= 0


def _is_number(raw: bytes, most: float) -> bool:
    return _reads(lambda: float(raw)) and 0 <= float(raw) <= most


def _is_stamp(raw: bytes) -> bool:
    return re.fullmatch(rb"\d{1,17}", raw) is not None


def _is_limit(raw: bytes) -> bool:
    return _reads(lambda: Limit.parse(raw.decode()))


def _is_measured(raw: bytes) -> bool:
    if (found := _decoded(raw, Measured)) is None:
        return False
    counts = found.completed, found.errors
    return all(0 <= one <= LONGEST_CALL_MS for one in found.milliseconds) and all(0 <= one < MOST for one in counts)


def _is_completed(raw: bytes) -> bool:
    try:
        found = read_completed(raw)
    except ValueError:
        return False
    times = (found.milliseconds, found.waited_ms)
    return all(0 <= one <= LONGEST_CALL_MS for one in times) and 0 <= found.idle_ms < MOST and found.at_us >= 0


def _is_expected(raw: bytes) -> bool:
    return _reads(lambda: read_expected(raw)) and not raw.startswith(b"-") and all(map(_is_count, raw.split(b" ")))


def _is_dropped(field: bytes, value: bytes) -> bool:
    if field == b"run":
        return is_run_id(value)
    return field.startswith(b"events:") and _is_text(field) and _is_count(value)


def _is_budget(field: bytes, value: bytes) -> bool:
    return _is_text(field) and (_is_count(value) if b" " in field else _is_text(value))


def _is_epoch(field: bytes, value: bytes) -> bool:
    if field in {b"born", b"slots", b"since", b"underway_us"}:
        return _is_count(value)
    return _is_whole(value) if field == b"shifted_us" else _is_text(value)


def _is_health(field: bytes, value: bytes, latest_us: int) -> bool:
    """Return whether a field of an endpoint's health is possible: only a pause may end after `latest_us`."""
    if field in {b"rest_until_us", b"held_until_us", b"probe_until_us"}:
        return _is_count(value) and int(value) <= latest_us
    if field == b"paused_until_us":
        return re.fullmatch(rb"\d{1,18}", value) is not None
    if field == b"paused_at":
        return _is_number(value, MOST - 1)
    if field in {b"failures", b"refusals", b"kept_us", b"opened_us"}:
        return _is_count(value)
    return _is_text(value)


def _is_way(field: bytes, value: bytes) -> bool:
    if b" " in field:
        return _is_text(field) and _is_text(value) and read_way(field, value) is not None
    return _is_text(field) and is_state(value)


def _with(value: Test, field: Test = _is_text) -> Test:
    """Return the test of a hash, from a test of its values and a test of its fields."""
    return lambda one, other: field(one) and value(other)


def families(latest: float, latest_us: int) -> dict[str, tuple[KeyType, Test | None]]:
    """Return the type of each family's keys and the test of their entries, by its name in `Keys`.

    No tick was later than `latest` (seconds since 1970), and no rest of an endpoint ends after `latest_us`
    (microseconds). The names of the broker's families begin with `dramatiq:`.
    """
    return {
        **dict.fromkeys(("aside", "events", "processing", "failed", "requests"), (KeyType.LIST, None)),
        **dict.fromkeys(("lease", "quarantine", "run"), (KeyType.HASH, None)),
        "schemas": (KeyType.HASH, _with(_is_text, _is_count)),
        "sequence": (KeyType.STRING, _is_count),
        "epoch": (KeyType.HASH, _is_epoch),
        "types": (KeyType.SET, is_type_name),
        "current": (KeyType.STRING, is_run_id),
        "releases": (KeyType.LIST, lambda raw: _decoded(raw, Release) is not None),
        "totals": (KeyType.HASH, _with(_is_count)),
        "measured": (KeyType.HASH, _with(_is_measured)),
        "expected": (KeyType.HASH, _with(_is_expected)),
        "records": (KeyType.HASH, _with(is_record, is_run_id)),
        "runs": (KeyType.LIST, is_run_id),
        "budgets": (KeyType.HASH, _is_budget),
        "limits": (KeyType.HASH, _with(_is_limit)),
        "wanted": (KeyType.STRING, lambda raw: _is_count(raw) and int(raw) <= MOST_WORKERS),
        "coming_up": (KeyType.STRING, lambda raw: _is_number(raw, LONGEST_CALL_MS / 1000)),
        "dropped": (KeyType.HASH, _is_dropped),
        "restarts": (KeyType.STRING, _is_count),
        "limits_filed": (KeyType.HASH, _with(_is_limit)),
        "changes": (KeyType.LIST, lambda raw: _decoded(raw, Change) is not None),
        "last_tick": (KeyType.STRING, lambda raw: _is_number(raw, latest)),
        **{f"dramatiq:{name}": (kind, None) for name, kind in BROKER.items()},
        **dict.fromkeys(ZSETS, (KeyType.ZSET, None)),
        "window": (KeyType.LIST, _is_stamp),
        "moved": (KeyType.LIST, lambda raw: re.fullmatch(rb"\d{1,17} \d{1,17}", raw) is not None),
        "health": (KeyType.HASH, lambda field, value: _is_health(field, value, latest_us)),
        "ways": (KeyType.HASH, _is_way),
        **dict.fromkeys(("well", "well_hosts"), (KeyType.ZSET, None)),
        "processes": (KeyType.SET, _is_text),
        "process": (KeyType.STRING, None),
        "calls": (KeyType.HASH, _with(is_note)),
        "tally": (KeyType.HASH, _with(_is_count)),
        "timings": (KeyType.LIST, _is_completed),
    }
