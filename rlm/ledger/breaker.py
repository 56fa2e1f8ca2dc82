"""The breaker of an endpoint: the endpoint rests after failures or on request, and one probe may reopen it.

It also stores an endpoint's health beside its window, and detects limits that are too high: the endpoint refuses a call
that its limit allows. The number of that call in its period is noted. One refusal raises no alarm, because another
program may use the same key. It is over when the limit is changed, or when as many calls in a period were not refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rlm.core.clock import system_clock
from rlm.core.text import ordinal
from rlm.core.window import FAILING, most_in_any
from rlm.ledger.connect import text, translating
from rlm.ledger.scripts import Command, Part
from rlm.ledger.values import MICROSECONDS, moment, moment_of_us, reading, whole

if TYPE_CHECKING:
    from rlm.core.endpoint import Endpoint, Limited
    from rlm.ledger import Store
    from rlm.ledger.claims import Admitted

#: The first rest of an endpoint that keeps failing, seconds.
FIRST_REST_SECONDS = 1.0
#: A limit raises an alarm from this many refusals on.
ALARMING: Final = 2

#: `paused_until_us` of an endless pause: the end of the year 9999, as `pause_endpoint` writes it.
_FOREVER_US = 253_402_300_799_000_000
_REFUSED = ("refused_limit", "refused_nth", "refused_calls", "refused_us")
_HEALTH = ("failures", "paused_by", "paused_at", "paused_until_us", "opened_us", "failed_with", *_REFUSED)


class Failed(msgspec.Struct, frozen=True):
    """The effect of a failure: how long the endpoint rests from now (0: it does not), and whether this `opened` it."""

    rest_seconds: float
    opened: bool


class Refusals(msgspec.Struct, frozen=True):
    """Calls that an endpoint refused as too many although its `limit` allows them.

    `nth` is one more than the calls accepted in the shortest period of the limit, the lowest over all refusals; `at` is
    when the newest was refused, seconds since 1970.
    """

    limit: str
    nth: int
    calls: int
    at: float


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
    refusals: Refusals | None = None


class Breaker(Part):
    """Rests and reopens endpoints for all workers at once, and reads their health."""

    def rest(self, endpoint: Endpoint, seconds: float) -> float:
        """Rest an endpoint for `seconds` for all workers, as it asked; return how long it rests from now, seconds."""
        return self._rest_by(endpoint, seconds, seconds, failing=0)[0].rest_seconds

    def refuse(self, endpoint: Endpoint, seconds: float, slot: Admitted) -> Refusals | None:
        """Rest an endpoint that refused the call of `slot` as one too many, and note the number of that call.

        The number is one more than the calls that may have been accepted in the shortest period of its limit; the
        lowest is kept. Each of several concurrent calls may have come last, because their order is not known. A probe's
        refusal is ignored. The period includes the guard: an endpoint may read a call that long after its slot was
        taken, and still count it when a period has passed here. Return what is noted under this limit, None if this
        refusal is not.
        """
        shortest = min(endpoint.limit.rules, key=lambda rule: rule.seconds)
        period_us = round((shortest.seconds + self._store.settings.run.guard_seconds) * MICROSECONDS)
        refused: list[str | int] = [slot.stamp, period_us, endpoint.limit.text, 0 if slot.suspect else shortest.amount]
        _, noted, nth = self._rest_by(endpoint, seconds, seconds, failing=0, refused=refused)
        return Refusals(endpoint.limit.text, nth, noted, system_clock.now()) if noted else None

    def fail(self, endpoint: Endpoint, *, first_rest_seconds: float, failing: int, why: str = "") -> Failed:
        """Count a failure. From `failing` in a row on the endpoint rests, twice as long each time, at most a period.

        `why` describes it in a few words of `rlm.delivery.outcome`, and is kept until the endpoint answers well.
        """
        longest_seconds = endpoint.limit.longest_seconds
        return self._rest_by(endpoint, first_rest_seconds, longest_seconds, failing=failing, why=why)[0]

    def _rest_by(
        self,
        endpoint: Endpoint,
        seconds: float,
        longest_seconds: float,
        *,
        failing: int,
        refused: Sequence[str | int] = ("", 0, "", 0),
        why: str = "",
    ) -> tuple[Failed, int, int]:
        keys = [self._keys.health(endpoint.window_id), self._keys.window(endpoint.window_id)]
        args = [round(seconds * MICROSECONDS), round(longest_seconds * MICROSECONDS), failing, *refused, why]
        rest_us, opened, noted, nth = self._run("rest_endpoint", keys, args)
        return Failed(rest_us / MICROSECONDS, opened=bool(opened)), noted, nth

    def reopen(self, endpoint: Endpoint) -> bool:
        """End the probing of an endpoint that answered well; return whether it was probed."""
        return bool(self._run("reopen_endpoint", [self._keys.health(endpoint.window_id)]))

    @translating
    def health(self, limited: Sequence[Limited]) -> dict[str, Health]:
        """Return the health of each, by name."""
        return read_health(self._batch(self.health_commands(limited)), limited)

    def health_commands(self, limited: Sequence[Limited]) -> list[Command]:
        """Return the commands whose replies `read_health` reads."""
        return [("HMGET", self._keys.health(one.window_id), *_HEALTH) for one in limited]

    def forget_refusals(self, limited: Limited) -> None:
        """Forget that calls of `limited` were refused, because enough were answered well since."""
        self._ask("HDEL", self._keys.health(limited.window_id), *_REFUSED)


def read_health(replies: Sequence[Sequence[bytes | None]], limited: Sequence[Limited]) -> dict[str, Health]:
    """Read the replies to the commands of `Breaker.health_commands`."""
    return {one.name: _read_health(one.name, told) for one, told in zip(limited, replies, strict=True)}


def raised_alarm(health: Mapping[str, Health], since: float) -> set[str]:
    """Return the names of the endpoints that raised an alarm since `since` (seconds since 1970), or still fail."""
    return {
        name
        for name, one in health.items()
        if one.failures >= FAILING or (one.opened_at is not None and one.opened_at >= since)
    }


def _read_health(name: str, fields: Sequence[bytes | None]) -> Health:
    failures, by, at, until_us, opened_us, failed_with, *refused = fields
    key = f"the health of {name}"
    until = reading(whole, until_us, key, None)
    ends = until is not None and until < _FOREVER_US // 2  # it may be moved with a clock that steps
    return Health(
        reading(whole, failures, key, 0),
        text(by or b""),
        reading(moment, at, key, None),
        moment_of_us(until) if until is not None and ends else None,
        reading(moment_of_us, opened_us, key, None),
        text(failed_with or b""),
        _read_refusals(key, *refused),
    )


def _read_refusals(
    key: str, limit: bytes | None, nth: bytes | None, calls: bytes | None, at_us: bytes | None
) -> Refusals | None:
    if not (limit and nth and calls and at_us):
        return None
    at = reading(moment_of_us, at_us, key, 0.0)
    return Refusals(text(limit), reading(whole, nth, key, 0), reading(whole, calls, key, 0), at)


class TooHigh(msgspec.Struct, frozen=True):
    """An endpoint as in force, and its refusals noted under that limit."""

    endpoint: Endpoint
    refusals: Refusals

    @property
    def period_seconds(self) -> float:
        """The shortest period of its limit, in which the calls were counted."""
        return min(rule.seconds for rule in self.endpoint.limit.rules)

    @property
    def suggested(self) -> str:
        """The highest limit under which the refused call would not have been sent."""
        shortest = min(range(len(self.endpoint.limit.rules)), key=lambda at: self.endpoint.limit.rules[at].seconds)
        parts = [part.strip() for part in re.split(r"[;,|]", self.endpoint.limit.text)]
        parts[shortest] = re.sub(r"^\d+", str(self.refusals.nth - 1), parts[shortest])
        return "; ".join(parts)

    @property
    def sentence(self) -> str:
        """The finding as a sentence, without a full stop."""
        nth, seconds = ordinal(self.refusals.nth), f"{self.period_seconds:g} s"
        return f"{self.endpoint.name} refused the {nth} call in {seconds}; you set {self.endpoint.limit.text}"

    @property
    def remedy(self) -> str:
        """The command that sets the limit; it mentions the budget, which may be the one that is too high."""
        budget = self.endpoint.budget
        other = f" (or lower its budget {budget.name})" if budget else ""
        return f"`rlm endpoint limit {self.endpoint.name} '{self.suggested}'`{other}"

    def as_json(self) -> dict[str, Any]:
        """Return the JSON document for a record."""
        return {
            "endpoint": self.endpoint.name,
            "limit": self.endpoint.limit.text,
            "refused_call": self.refusals.nth,
            "period_seconds": self.period_seconds,
            "calls": self.refusals.calls,
            "suggested": self.suggested,
            "sentence": self.sentence,
            "remedy": self.remedy,
        }


def limits_too_high(
    store: Store,
    since: float = 0.0,
    endpoints: Mapping[str, Endpoint] | None = None,
    health: Mapping[str, Health] | None = None,
) -> list[TooHigh]:
    """Return the limits that are too high, of those that refused a call since `since` (seconds since 1970).

    `endpoints` are the endpoints in force by name, and `health` is theirs, if they have been read already.
    """
    endpoints = store.endpoints() if endpoints is None else endpoints
    health = store.breaker.health(list(endpoints.values())) if health is None else health
    found = [TooHigh(one, told) for name, one in endpoints.items() if (told := health[name].refusals)]
    standing = [one for one in found if one.refusals.limit == one.endpoint.limit.text and one.refusals.at >= since]
    return [one for one in standing if not _is_over(store, one)]


def forget_what_is_over(store: Store) -> None:
    """Forget refusals that no longer count, so that new ones raise an alarm again."""
    endpoints = store.endpoints()
    standing = {one.endpoint.name for one in limits_too_high(store, endpoints=endpoints)}
    for name, one in store.breaker.health(list(endpoints.values())).items():
        if one.refusals and name not in standing:
            store.breaker.forget_refusals(endpoints[name])


def _is_over(store: Store, one: TooHigh) -> bool:
    """Return whether that many calls were sent within a period since the last refusal, at least a period ago."""
    period_us, after_us = round(one.period_seconds * MICROSECONDS), round(one.refusals.at * MICROSECONDS)
    amount = max(rule.amount for rule in one.endpoint.limit.rules)
    until_us = store.now_us() - period_us
    sent = [at for at in store.windows.sent(one.endpoint, 2 * amount) if after_us < at <= until_us]
    return most_in_any(sent, period_us) >= one.refusals.nth
