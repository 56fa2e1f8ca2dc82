"""The breaker of an endpoint: the endpoint rests after failures or on request, and one probe may reopen it.

It also stores an endpoint's health beside its window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from rlm.core.window import FAILING
from rlm.ledger.connect import text, translating
from rlm.ledger.scripts import Command, Part, ScriptReply
from rlm.ledger.values import MICROSECONDS, moment, moment_of_us, reading, whole

if TYPE_CHECKING:
    from rlm.core.endpoint import Endpoint, Limited

#: The first rest of an endpoint that keeps failing, seconds.
FIRST_REST_SECONDS = 1.0

#: `paused_until_us` of an endless pause: the end of the year 9999, as `pause_endpoint` writes it.
_FOREVER_US = 253_402_300_799_000_000
_HEALTH = ("failures", "paused_by", "paused_at", "paused_until_us", "opened_us", "failed_with")


class Failed(ScriptReply, frozen=True):
    """The effect of a failure: how long the endpoint rests from now (0: it does not), and whether this `opened` it."""

    rest_us: int
    opened: bool = False

    @property
    def rest_seconds(self) -> float:
        """How long it rests, seconds."""
        return self.rest_us / MICROSECONDS


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
    """Rests and reopens endpoints for all workers at once, and reads their health."""

    def rest(self, endpoint: Endpoint, seconds: float) -> float:
        """Rest an endpoint that refused a call as one too many; return how long it rests from now, seconds.

        It rests for the `seconds` for which it asked, and longer from its second refusal in a row on.
        """
        rest_us = self._run(
            "rest_endpoint",
            health=self._keys.health(endpoint.window_id),
            asked_us=round(seconds * MICROSECONDS),
            longest_us=round(endpoint.limit.longest_seconds * MICROSECONDS),
        )
        return int(rest_us) / MICROSECONDS

    def fail(self, endpoint: Endpoint, *, first_rest_seconds: float, failing: int, why: str = "") -> Failed:
        """Count a failure. From `failing` in a row on the endpoint rests, twice as long each time, at most a period.

        `why` describes it in a few words of `rlm.delivery.outcome`, and is kept until the endpoint answers well.
        """
        reply = self._run(
            "fail_endpoint",
            health=self._keys.health(endpoint.window_id),
            first_us=round(first_rest_seconds * MICROSECONDS),
            longest_us=round(endpoint.limit.longest_seconds * MICROSECONDS),
            failing=failing,
            why=why,
        )
        return Failed.read(reply)

    def reopen(self, endpoint: Endpoint) -> bool:
        """End the probing of an endpoint that answered well; return whether it was probed."""
        return bool(self._run("reopen_endpoint", health=self._keys.health(endpoint.window_id)))

    @translating
    def health(self, limited: Sequence[Limited]) -> dict[str, Health]:
        """Return the health of each, by name."""
        return read_health(self._batch(self.health_commands(limited)), limited)

    def health_commands(self, limited: Sequence[Limited]) -> list[Command]:
        """Return the commands whose replies `read_health` reads."""
        return [("HMGET", self._keys.health(each.window_id), *_HEALTH) for each in limited]


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
    until_us = reading(whole, fields["paused_until_us"], key, _FOREVER_US)
    return Health(
        failures=reading(whole, fields["failures"], key, 0),
        paused_by=text(fields["paused_by"] or b""),
        paused_at=reading(moment, fields["paused_at"], key, None),
        # An endless pause may be moved with a clock that steps.
        paused_until=moment_of_us(until_us) if until_us < _FOREVER_US // 2 else None,
        opened_at=reading(moment_of_us, fields["opened_us"], key, None),
        failed_with=text(fields["failed_with"] or b""),
    )
