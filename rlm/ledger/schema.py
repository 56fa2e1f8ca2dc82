"""The schema of keys: each test returns whether one entry, as it stands in Redis, can be RLM's."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import msgspec

from rlm.core.endpoint import Limit
from rlm.core.event import is_type_name
from rlm.core.expected import Measured
from rlm.ledger.claims import Release
from rlm.ledger.keys import KeyType
from rlm.ledger.measures import read_completed, read_expected

if TYPE_CHECKING:
    from collections.abc import Callable

#: So many workers are wanted at the most.
MOST_WORKERS = 1_000_000
#: Beyond this numbers of Redis, Lua and JSON are no longer whole.
MOST = 2**53
#: No call takes longer, milliseconds.
LONGEST_CALL_MS = 86_400_000.0
#: What a record must have for anybody to show it.
RECORD = ("run_id", "state", "started_at", "finished_at", "duration_seconds", "counts", "by_type", "by_endpoint")

_WHOLE = re.compile(rb"-?\d{1,16}")
_RUN_ID = re.compile(rb"[!-~]{1,100}")
_STAMP = re.compile(rb"\d{1,17}")
_MOVED = re.compile(rb"\d{1,17} \d{1,17}")


def is_text(raw: bytes) -> bool:
    """Whether it is text."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_whole(raw: bytes) -> bool:
    """Whether it is a whole number that stays one wherever it is read."""
    return _WHOLE.fullmatch(raw) is not None and abs(int(raw)) < MOST


def is_count(raw: bytes) -> bool:
    """Whether it is a whole number from 0."""
    return is_whole(raw) and int(raw) >= 0


def is_span(raw: bytes) -> bool:
    """Whether it is how long something took, seconds, no longer than a day."""
    return _reads(lambda: float(raw)) and 0 <= float(raw) <= LONGEST_CALL_MS / 1000


def is_dropped(field: bytes, value: bytes) -> bool:
    """Whether it says which run leftovers were dropped of, or how many of a type."""
    return is_run_id(value) if field == b"run" else field.startswith(b"events:") and is_text(field) and is_count(value)


def is_run_id(raw: bytes) -> bool:
    """Whether a run may be called so."""
    return _RUN_ID.fullmatch(raw) is not None


def is_stamp(raw: bytes) -> bool:
    """Whether it is the stamp of a slot."""
    return _STAMP.fullmatch(raw) is not None


def is_moved(raw: bytes) -> bool:
    """Whether it says of a slot when its call was sent."""
    return _MOVED.fullmatch(raw) is not None


def is_release(raw: bytes) -> bool:
    """Whether it is a released call."""
    return _reads(lambda: msgspec.json.decode(raw, type=Release))


def is_limit(raw: bytes) -> bool:
    """Whether it is the text of a limit."""
    return _reads(lambda: Limit.parse(raw.decode()))


def is_record(raw: bytes) -> bool:
    """Whether it is the record of a run, or has at least what everybody reads of one."""
    try:
        found: Any = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and all(name in found for name in RECORD) and isinstance(found["counts"], dict)


def is_measured(raw: bytes) -> bool:
    """Whether it is what is kept of calls, none of which took longer than a day."""
    try:
        found = msgspec.json.decode(raw, type=Measured)
    except (ValueError, RecursionError):
        return False
    counts = (found.completed, found.errors)
    return all(0 <= one <= LONGEST_CALL_MS for one in found.milliseconds) and all(0 <= one < MOST for one in counts)


def is_completed(raw: bytes) -> bool:
    """Whether it is a completed call."""
    try:
        found = read_completed(raw)
    except ValueError:
        return False
    times = (found.milliseconds, found.waited_ms)
    return all(0 <= one <= LONGEST_CALL_MS for one in times) and 0 <= found.idle_ms < MOST and found.at_us >= 0


def is_expected(raw: bytes) -> bool:
    """Whether it is what workers are told to expect of a call."""
    return _reads(lambda: read_expected(raw)) and not raw.startswith(b"-") and all(map(is_count, raw.split(b" ")))


def is_moment(raw: bytes, latest: float) -> bool:
    """Whether it is a moment, seconds since 1970, not after `latest`."""
    try:
        return 0 <= float(raw) <= latest
    except ValueError:
        return False


def is_epoch_field(field: bytes, value: bytes) -> bool:
    """Whether a field of the epoch holds what it may."""
    if field in {b"born", b"slots", b"since", b"underway_us"}:
        return is_count(value)
    return is_whole(value) if field == b"shifted_us" else is_text(value)


def is_health_field(field: bytes, value: bytes, latest_us: int) -> bool:
    """Whether a field of an endpoint's health holds what it may: no rest but a pause ends after `latest_us`."""
    if field in {b"rest_until_us", b"held_until_us", b"probe_until_us"}:
        return is_count(value) and int(value) <= latest_us
    if field == b"paused_until_us":
        return _STAMP.fullmatch(value) is not None or re.fullmatch(rb"\d{18}", value) is not None
    if field == b"paused_at":
        return is_moment(value, math.inf) and float(value) < MOST
    if field in {b"failures", b"kept_us", b"opened_us", b"refused_us", b"refused_nth", b"refused_calls"}:
        return is_count(value)
    if field == b"refused_limit":
        return is_limit(value)
    return is_text(value)


def _reads(read: Callable[[], object]) -> bool:
    try:
        read()
    except (ValueError, OverflowError):
        return False
    return True


def both(field: Callable[[bytes], bool], value: Callable[[bytes], bool]) -> Callable[[bytes, bytes], bool]:
    """Return the test of a field and its value in a hash, from a test of each."""
    return lambda one, other: field(one) and value(other)


def _is_budget(field: bytes, value: bytes) -> bool:
    return is_text(field) and (is_count(value) if b" " in field else is_text(value))


def _is_wanted(raw: bytes) -> bool:
    return is_count(raw) and int(raw) <= MOST_WORKERS


#: Keys that are always the same, with the test of their entries.
ALWAYS: tuple[tuple[str, KeyType, Callable[..., bool]], ...] = (
    ("sequence", KeyType.STRING, is_count),
    ("epoch", KeyType.HASH, is_epoch_field),
    ("types", KeyType.SET, is_type_name),
    ("current", KeyType.STRING, is_run_id),
    ("releases", KeyType.LIST, is_release),
    ("totals", KeyType.HASH, both(is_text, is_count)),
    ("measured", KeyType.HASH, both(is_text, is_measured)),
    ("expected", KeyType.HASH, both(is_text, is_expected)),
    ("records", KeyType.HASH, both(is_run_id, is_record)),
    ("runs", KeyType.LIST, is_run_id),
    ("budgets", KeyType.HASH, _is_budget),
    ("limits", KeyType.HASH, both(is_text, is_limit)),
    ("wanted", KeyType.STRING, _is_wanted),
    ("coming_up", KeyType.STRING, is_span),
    ("dropped", KeyType.HASH, is_dropped),
    ("restarts", KeyType.STRING, is_count),
)
