"""What an operator changes on the live system: the limit of an endpoint or a budget, whether it may be called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from rlm.core.window import FAILING
from rlm.ledger.changes import MOST_CHANGES, What, record_of
from rlm.ledger.connect import ESCAPED, translated
from rlm.ledger.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from rlm.core.endpoint import Limited
    from rlm.ledger.keys import Keys

_MICROSECONDS = 1_000_000
#: `paused_until_us` of a pause that lasts until it is resumed: the end of the year 9999, as `pause_endpoint` writes it.
_FOREVER_US = 253_402_300_799_000_000
_REFUSED = ("refused_limit", "refused_nth", "refused_calls", "refused_us")
_HEALTH = ("failures", "paused_by", "paused_at", "paused_until_us", "opened_us", "failed_with", *_REFUSED)


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a resume ended: a pause, a rest for what the endpoint answered."""

    paused: bool
    rested: bool


@dataclass(frozen=True, slots=True)
class Refusals:
    """Calls that an endpoint refused as too many though its `limit` allows them.

    `nth` is one more than were accepted in the shortest period of the limit, the lowest such number of all of them;
    `at` is when the newest was refused, seconds since 1970.
    """

    limit: str
    nth: int
    calls: int
    at: float


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of an endpoint or a budget beside its window: failures in a row, its last pause and whose that was.

    Times are in seconds since 1970. `paused_until` is None for a pause without an end, and where there was none.
    `opened_at` is when it last came to rest for its failures, which raised an alarm.
    `failed_with` is what the last of its failures was, in a few words; empty where that is not known.
    `refusals` are those of calls that its limit allows, if any, see `rlm.ledger.refusals`.
    """

    failures: int
    paused_by: str
    paused_at: float | None
    paused_until: float | None
    opened_at: float | None = None
    failed_with: str = ""
    refusals: Refusals | None = None


class Control:
    """Each change is made for all workers at once, and recorded in the same step."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._set_limit = Script("set_limit")
        self._pause = Script("pause_endpoint")
        self._resume = Script("resume_endpoint")

    def limit(self, limited: Limited, limit: str, by: str) -> str:
        """Set a limit, which holds until the file's value for it changes; return the one before.

        The window keeps its history, so nothing is allowed twice. `limited` is as the configuration has it.

        Raises:
            StoreError: Redis did not answer; whether it is set is not known.
        """
        keys = self._keys
        record = record_of(by, limited.name, What.LIMIT, limit)
        before = self._set_limit(
            self._client,
            [keys.limits, keys.limits_filed, keys.changes],
            [limited.name, limit, limited.limit.text, MOST_CHANGES, record],
        )
        return cast("bytes", before).decode(errors=ESCAPED)

    def pause(self, limited: Limited, by: str, seconds: float | None = None) -> None:
        """Let no new call go to `limited`, for `seconds` or until it is resumed. Calls under way are not cut.

        Raises:
            StoreError: Redis did not answer; whether it is paused is not known.
        """
        pause_us = -1 if seconds is None else round(seconds * _MICROSECONDS)
        record = record_of(by, limited.name, What.PAUSE, "until resumed" if seconds is None else f"{seconds:g} s")
        self._pause(self._client, self._both(limited), [pause_us, by, MOST_CHANGES, record])

    def resume(self, limited: Limited, by: str) -> Resumed:
        """End a pause, and a rest for what the endpoint answered: its next call is its probe then.

        A rest because its window cannot be trusted stands, for else a limit could be exceeded.

        Raises:
            StoreError: Redis did not answer; whether it is resumed is not known.
        """
        record = record_of(by, limited.name, What.RESUME)
        paused, rested = self._resume(self._client, self._both(limited), [MOST_CHANGES, record])
        return Resumed(bool(paused), bool(rested))

    @translated()
    def health(self, limited: Sequence[Limited]) -> dict[str, Health]:
        """Return what is known of each, by name.

        Raises:
            StoreError: Redis did not answer.
        """
        with translated(self._client):
            pipeline = self._client.pipeline(transaction=False)
            for one in limited:
                pipeline.hmget(self._keys.health(one.window_id), _HEALTH)
            found = pipeline.execute()
        return {one.name: _read_health(*told) for one, told in zip(limited, found, strict=True)}

    def alarmed(self, endpoints: Sequence[Limited], since: float) -> set[str]:
        """Return the names of the endpoints that raised an alarm since (seconds since 1970), or still fail.

        Raises:
            StoreError: Redis did not answer.
        """
        return {
            name
            for name, one in self.health(endpoints).items()
            if one.failures >= FAILING or (one.opened_at is not None and one.opened_at >= since)
        }

    def forget_refusals(self, limited: Limited) -> None:
        """Forget that calls of `limited` were refused: so many were answered well since.

        Raises:
            StoreError: Redis did not answer.
        """
        with translated(self._client):
            self._client.hdel(self._keys.health(limited.window_id), *_REFUSED)

    def _both(self, limited: Limited) -> list[str]:
        return [self._keys.health(limited.window_id), self._keys.changes]


def _read_health(
    failures: bytes | None,
    by: bytes | None,
    at: bytes | None,
    until_us: bytes | None,
    opened_us: bytes | None,
    failed_with: bytes | None,
    *refused: bytes | None,
) -> Health:
    ends = until_us is not None and int(until_us) < _FOREVER_US // 2  # it is moved with a clock that steps
    return Health(
        int(failures or 0),
        (by or b"").decode(errors=ESCAPED),
        float(at) if at else None,
        int(until_us) / _MICROSECONDS if until_us and ends else None,
        int(opened_us) / _MICROSECONDS if opened_us else None,
        (failed_with or b"").decode(errors=ESCAPED),
        _read_refusals(*refused),
    )


def _read_refusals(limit: bytes | None, nth: bytes | None, calls: bytes | None, at_us: bytes | None) -> Refusals | None:
    if not (limit and nth and calls and at_us):
        return None
    return Refusals(limit.decode(), int(nth), int(calls), int(at_us) / _MICROSECONDS)
