"""The record of what was changed on the live system: limits, pauses; when, by whom, from what to what."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, cast

import msgspec

from rlm.ledger.connect import translated

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis

    from rlm.ledger.keys import Keys

#: Records kept, the newest.
MOST_CHANGES = 1000
#: By whom a limit was changed that follows the configuration file.
BY_FILE = "file"

_MICROSECONDS = 1_000_000


class What(StrEnum):
    """What was changed of an endpoint or a budget."""

    LIMIT = "limit"
    PAUSE = "pause"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Change:
    """One change, `at` in seconds since 1970 by the clock of Redis, `by` user@host or `BY_FILE`.

    Of a limit, `before` and `after` are its texts, `before` being None for the first that was published. Of a pause,
    `after` says how long; of a resume, `before` what was ended.
    """

    at: float
    by: str
    name: str
    what: What
    before: str | None
    after: str | None

    @property
    def ended(self) -> str:
        """What a resume ended, as health has it by now: records say `open` of what was resting."""
        return (self.before or "").replace("open", "resting")


class _Record(msgspec.Struct, rename={"before": "from", "after": "to"}):
    """A change as it is kept."""

    by: str
    name: str
    what: What
    after: str | None
    at: float | msgspec.UnsetType = msgspec.UNSET
    before: str | msgspec.UnsetType | None = msgspec.UNSET


class Changes:
    """The newest changes, written in the step that makes them."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    def note(self, by: str, name: str, what: What, before: str | None, after: str | None) -> None:
        """Record a change that is made now, apart from the step that makes it.

        Raises:
            StoreError: Redis did not answer; whether it is recorded is not known.
        """
        with translated(self._client):
            seconds, microseconds = self._client.time()
            at = seconds + microseconds / _MICROSECONDS
            pipeline = self._client.pipeline(transaction=True)
            pipeline.lpush(self._keys.changes, msgspec.json.encode(_Record(by, name, what, after, at, before)))
            pipeline.ltrim(self._keys.changes, 0, MOST_CHANGES - 1)
            pipeline.execute()

    @translated()
    def newest(self, number: int = MOST_CHANGES) -> list[Change]:
        """Return the newest `number` changes, newest first.

        Raises:
            StoreError: Redis did not answer.
        """
        with translated(self._client):
            found = cast("list[bytes]", self._client.lrange(self._keys.changes, 0, max(0, number - 1)))
        return [_read(raw) for raw in found]

    @staticmethod
    def is_change(raw: bytes) -> bool:
        """Return whether an entry of the list is a change."""
        try:
            _read(raw)
        except (ValueError, RecursionError):
            return False
        return True

    def limits(self, name: str) -> list[tuple[float, str]]:
        """Return the limits that an endpoint or a budget had; see `limits_of`.

        Raises:
            StoreError: Redis did not answer.
        """
        return limits_of(name, self.newest())


def limits_of(name: str, newest: Iterable[Change]) -> list[tuple[float, str]]:
    """Return the limits that an endpoint or a budget had, each with since when (seconds since 1970), oldest first.

    By the `newest` changes, of whatever name, newest first. What was in force before the oldest of them comes first,
    since 0.0, where that is known.
    """
    changes = [one for one in newest if one.name == name and one.what is What.LIMIT and one.after]
    found = [(one.at, one.after) for one in reversed(changes) if one.after]
    if changes and changes[-1].before:
        found.insert(0, (0.0, changes[-1].before))
    return found


def record_of(by: str, name: str, what: What, after: str | None = None) -> bytes:
    """Write a change for a script, which adds when it was made and what was there before."""
    return msgspec.json.encode(_Record(by, name, what, after))


def _read(raw: bytes) -> Change:
    one = msgspec.json.decode(raw, type=_Record)
    return Change(one.at or 0.0, one.by, one.name, one.what, one.before or None, one.after)
