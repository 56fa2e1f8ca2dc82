"""How much of what there was a run used: calls a minute, the time of lanes, slots of endpoints; the age of answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm.core.expected import quantile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rlm.core.endpoint import Limit
    from rlm.core.expected import Completed


def usage(
    calls: Sequence[Completed],
    made: Mapping[str, int],
    limits: Mapping[str, Limit],
    *,
    lanes: int,
    seconds: float,
    guard_seconds: float,
) -> dict[str, Any]:
    """Return what a run used in the `seconds` from its first call to its last, as its record has it.

    Args:
        calls: its completed calls.
        made: its calls of any answer, by endpoint.
        limits: the limits of the endpoints of the types that it had events of.
        lanes: the most lanes that were ready at one time.
        seconds: 0 if no call was completed.
        guard_seconds: kept on each period.
    """
    ages = sorted(call.age_ms / 1000 for call in calls)
    busy = sum(call.milliseconds for call in calls) / 1000
    slots = sum(slots_in(limit, seconds, guard_seconds) for limit in limits.values()) if seconds else 0
    return {
        "calls_per_minute": round(sum(made.values()) * 60 / seconds, 1) if seconds else 0.0,
        "lanes": round(min(1.0, busy / (lanes * seconds)), 3) if lanes and seconds else 0.0,
        "slots": round(min(1.0, _called(made, limits) / slots), 3) if slots else 0.0,
        "answered_p50_seconds": round(quantile(ages, 0.50), 3),
        "answered_p95_seconds": round(quantile(ages, 0.95), 3),
    }


def slots_in(limit: Limit, seconds: float, guard_seconds: float) -> int:
    """Return the slots that a window, open at the start, has in so many seconds: by the rule that allows the fewest."""
    return min(rule.amount * (1 + int(seconds / (rule.seconds + guard_seconds))) for rule in limit.rules)


def _called(made: Mapping[str, int], names: Iterable[str]) -> int:
    return sum(made.get(name, 0) for name in names)
