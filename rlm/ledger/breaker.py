"""The health of endpoints and budgets, which is kept beside their windows. The script `turn` writes most of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from rlm.core.window import FAILING
from rlm.ledger.connect import text, translating
from rlm.ledger.scripts import Command, Part
from rlm.ledger.values import moment, moment_of_us, reading, whole

if TYPE_CHECKING:
    from rlm.core.endpoint import Limited

#: `pause` of an endless pause: the end of the year 9999, as `pause_endpoint` writes it.
_FOREVER_US = 253_402_300_799_000_000
_HEALTH = ("failures", "paused_by", "paused_at", "pause", "opened_us", "failed_with")


class Health(msgspec.Struct, frozen=True):
    """What is known of an endpoint or a budget beside its window: failures in a row, and its last pause and by whom.

    Times are seconds since 1970. `paused_until` is None for an endless pause and without a pause. `opened_at` is when
    it last began to rest because of failures, which raised an alarm. `failed_with` describes its last failure in a few
    words; empty if unknown.
    """

    failures: int
    paused_by: str
    paused_at: float | None
    paused_until: float | None
    opened_at: float | None = None
    failed_with: str = ""


class Breaker(Part):
    """Reads the health of endpoints. The script `turn` rests and reopens them."""

    @translating
    def health(self, limited: Sequence[Limited]) -> dict[str, Health]:
        """Return the health of each, by name."""
        return read_health(self._batch(self.health_commands(limited)), limited)

    def health_commands(self, limited: Sequence[Limited]) -> list[Command]:
        """Return the commands whose replies `read_health` reads."""
        return [("HMGET", self._keys.endpoint(each.window_id), *_HEALTH) for each in limited]


def read_health(replies: Sequence[Sequence[bytes | None]], limited: Sequence[Limited]) -> dict[str, Health]:
    """Read the replies to the commands of `Breaker.health_commands`."""
    return {each.name: _read_health(each.name, reply) for each, reply in zip(limited, replies, strict=True)}


def raised_alarm(health: Mapping[str, Health], since: float) -> set[str]:
    """Return the names of the endpoints that raised an alarm since `since` (seconds since 1970), or still fail."""
    return {
        name
        for name, each in health.items()
        if each.failures >= FAILING or (each.opened_at is not None and each.opened_at >= since)
    }


def _read_health(name: str, values: Sequence[bytes | None]) -> Health:
    fields, key = dict(zip(_HEALTH, values, strict=True)), f"the health of {name}"
    until_us = reading(whole, fields["pause"], key, _FOREVER_US)
    return Health(
        failures=reading(whole, fields["failures"], key, 0),
        paused_by=text(fields["paused_by"] or b""),
        paused_at=reading(moment, fields["paused_at"], key, None),
        # An endless pause may be moved with a clock that steps.
        paused_until=moment_of_us(until_us) if until_us < _FOREVER_US // 2 else None,
        opened_at=reading(moment_of_us, fields["opened_us"], key, None),
        failed_with=text(fields["failed_with"] or b""),
    )
