"""Limits that are set higher than an endpoint allows: it refuses calls, as too many, that its limit lets through.

What is told is a fact: the how-manieth call of a period was refused. Somebody else may call with the same key, so one
refusal is no alarm. It is over when the limit is changed, or once as many calls were sent in a period and none refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rlm.core.compliance import most_in_any
from rlm.core.text import ordinal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rlm.core.endpoint import Endpoint
    from rlm.ledger import Store
    from rlm.ledger.control import Refusals

#: From so many refusals on a limit raises an alarm.
ALARMING: Final = 2

_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class TooHigh:
    """An endpoint, as it is in force, and the refusals noted of it under that limit."""

    endpoint: Endpoint
    refusals: Refusals

    @property
    def period_seconds(self) -> float:
        """The shortest period of its limit, in which calls were counted."""
        return min(rule.seconds for rule in self.endpoint.limit.rules)

    @property
    def suggested(self) -> str:
        """The limit under which the call that was refused would not have been sent."""
        shortest = min(range(len(self.endpoint.limit.rules)), key=lambda at: self.endpoint.limit.rules[at].seconds)
        parts = [part.strip() for part in re.split(r"[;,|]", self.endpoint.limit.text)]
        parts[shortest] = re.sub(r"^\d+", str(self.refusals.nth - 1), parts[shortest])
        return "; ".join(parts)

    @property
    def sentence(self) -> str:
        """Say it, without a full stop."""
        nth, seconds = ordinal(self.refusals.nth), f"{self.period_seconds:g} s"
        return f"{self.endpoint.name} refused the {nth} call in {seconds}; you set {self.endpoint.limit.text}"

    @property
    def remedy(self) -> str:
        """Name the command that sets the limit, and the other one that it may be."""
        budget = self.endpoint.budget
        other = f" (or lower its budget {budget.name})" if budget else ""
        return f"`rlm endpoint limit {self.endpoint.name} '{self.suggested}'`{other}"

    def as_json(self) -> dict[str, Any]:
        """Return what a record says of it."""
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


def limits_too_high(store: Store, since: float = 0.0, endpoints: Mapping[str, Endpoint] | None = None) -> list[TooHigh]:
    """Return the limits that are too high, of those refused a call since then (seconds since 1970).

    `endpoints` are those in force, by name, where they have been read already.
    """
    endpoints = store.endpoints() if endpoints is None else endpoints
    health = store.control.health(list(endpoints.values()))
    found = [TooHigh(one, told) for name, one in endpoints.items() if (told := health[name].refusals)]
    standing = [one for one in found if one.refusals.limit == one.endpoint.limit.text and one.refusals.at >= since]
    return [one for one in standing if not _is_over(store, one)]


def forget_what_is_over(store: Store) -> None:
    """Forget the refusals that do not stand any more, so that new ones raise an alarm again."""
    standing = {one.endpoint.name for one in limits_too_high(store)}
    endpoints = store.endpoints()
    for name, one in store.control.health(list(endpoints.values())).items():
        if one.refusals and name not in standing:
            store.control.forget_refusals(endpoints[name])


def _is_over(store: Store, one: TooHigh) -> bool:
    """Return whether as many calls as that were sent within a period since the last refusal, a period ago or more."""
    period_us, after_us = round(one.period_seconds * _MICROSECONDS), round(one.refusals.at * _MICROSECONDS)
    amount = max(rule.amount for rule in one.endpoint.limit.rules)
    until_us = store.now_us() - period_us
    sent = [at for at in store.windows.sent(one.endpoint, 2 * amount) if after_us < at <= until_us]
    return most_in_any(sent, period_us) >= one.refusals.nth
