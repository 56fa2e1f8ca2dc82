"""Copies of a configuration as TOML: a faster one for the demo, a small one for the self-test.

Both omit headers, so that no secret gets into the file or to the mock API.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from msgspec.structs import asdict

from rlm.core.endpoint import Endpoint, EventType, Limit, all_limited
from rlm.settings import Settings, settings_under
from rlm.settings.secrets import EMBEDDED
from rlm.settings.toml import toml_document, toml_key

#: With a shorter time-out, calls on a busy machine would time out whatever the speed.
_SHORTEST_TIMEOUT_SECONDS = 1.0

#: Self-test: the period of a limit's shortest rule, seconds; that of the second rule is twice as long, and so on.
_PERIOD_SECONDS = 1.0
#: Calls of one type that an endpoint accepts in that period, unless its limit is lower.
_CALLS = 2
#: Events of a type beyond those that fit into the first period, so that the limit delays some.
_BEYOND = 2
#: Most events that fit into the first period; from `_MANY_TYPES` types on there are only those beyond.
_MOST_AT_ONCE = 8
_MANY_TYPES = 20
_PROCESSING_SECONDS = 0.05
_TIMEOUT_SECONDS = 5.0
_GUARD_SECONDS = (0.05, 0.5)
_WINDOW_SECONDS = 30.0
#: No tick comes during a self-test: its run is requested, and the test ends within a day.
_A_DAY = 86_400.0
_WORKERS = 2
_PERIODS_OF_A_BUDGET = 3
_LISTS = ("events", "processing", "failed")


def demo_document(settings: Settings, speed: float, base_url: str) -> str:
    """Return TOML like `settings`, on an embedded server and calling `base_url`/<name>, with times divided by `speed`.

    Time-outs stay at one second or more. Raise ValueError if `speed` is not a finite number above 0.
    """
    if not (math.isfinite(speed) and speed > 0):
        raise ValueError(f"the speed must be a number above 0, not {speed!r}")

    def timeout(seconds: float) -> float:
        return max(seconds / speed, min(seconds, _SHORTEST_TIMEOUT_SECONDS))

    tables: dict[str, dict[str, Any]] = {
        "redis": {"url": EMBEDDED, "embedded_port": 0, "prefix": settings.redis.prefix},
        "queue": _faster(asdict(settings.queue), speed),
        "run": _faster(asdict(settings.run), speed),
        "workers": asdict(settings.workers),
        "retry": {**asdict(settings.retry), "timeout_seconds": timeout(settings.retry.timeout_seconds)},
    }
    for one in settings.event_types:
        table = _type_table(one, base_url, lambda endpoint: _faster_limit(endpoint.limit, speed), timeout)
        tables[f"types.{toml_key(one.name)}"] = table | {"processing_seconds": one.processing_seconds / speed}
    for name, budget in settings.budgets.items():
        tables[f"budgets.{toml_key(name)}"] = {"rate_limit": _faster_limit(budget.limit, speed)}
    return toml_document(tables)


def _faster(table: dict[str, Any], speed: float) -> dict[str, Any]:
    return {key: value / speed if key.endswith("_seconds") else value for key, value in table.items()}


def _faster_limit(limit: Limit, speed: float) -> str:
    """Return a limit with shorter periods, without exponents: its notation has none."""
    periods = ((rule.amount, f"{rule.seconds / speed:.9f}".rstrip("0").rstrip(".")) for rule in limit.rules)
    return "; ".join(f"{amount} per {seconds} seconds" for amount, seconds in periods)


def selftest_document(settings: Settings, prefix: str, base_url: str) -> str:
    """Return TOML like `settings`, small and fast, under `prefix`, calling only `base_url`/<name>.

    It has the same types, endpoints and kinds of limits, but not the address of Redis.
    """
    events, own = events_by_type(settings), settings_under(settings, prefix)
    users = Counter(endpoint.name for one in settings.event_types for endpoint in one.endpoints)
    guard = min(max(settings.run.guard_seconds, _GUARD_SECONDS[0]), _GUARD_SECONDS[1])

    def limit(endpoint: Endpoint) -> str:
        return _smaller_limit(endpoint.limit, _CALLS * users[endpoint.name])

    def timeout(seconds: float) -> float:
        return min(seconds, _TIMEOUT_SECONDS)

    tables: dict[str, dict[str, Any]] = {
        "redis": {"prefix": own.redis.prefix},
        "queue": {name: getattr(own.queue, name) for name in _LISTS},
        "run": {"window_seconds": _WINDOW_SECONDS, "every_seconds": _A_DAY, "guard_seconds": guard},
        "workers": {"min": 0, "max": min(_WORKERS, settings.workers.max), "threads": settings.workers.threads},
        "retry": {"timeout_seconds": timeout(settings.retry.timeout_seconds)},
    }
    for one in settings.event_types:
        seconds = {"processing_seconds": min(one.processing_seconds, _PROCESSING_SECONDS)}
        tables[f"types.{toml_key(one.name)}"] = _type_table(one, base_url, limit, timeout) | seconds
    for name, budget in settings.budgets.items():
        calls = sum(events[one.name] for one in settings.event_types if budget in all_limited(one.endpoints))
        most = max(_CALLS, math.ceil(calls / _PERIODS_OF_A_BUDGET))
        tables[f"budgets.{toml_key(name)}"] = {"rate_limit": _smaller_limit(budget.limit, most)}
    return toml_document(tables)


def events_by_type(settings: Settings) -> dict[str, int]:
    """Return the events of each type in a self-test: slightly more than fit into the first period."""
    most = _MOST_AT_ONCE if len(settings.event_types) <= _MANY_TYPES else 0
    return {one.name: _BEYOND + min(most, sum(map(_first_calls, one.endpoints))) for one in settings.event_types}


def _first_calls(endpoint: Endpoint) -> int:
    return min(_CALLS, *(rule.amount for rule in endpoint.limit.rules))


def _smaller_limit(limit: Limit, calls: int) -> str:
    """Return a limit with as many rules, in the same order of periods, that a few calls reach."""
    rules = sorted(limit.rules, key=lambda rule: rule.seconds)
    return "; ".join(
        f"{min(rule.amount, calls * place)} per {_PERIOD_SECONDS * place} second"
        for place, rule in enumerate(rules, start=1)
    )


def _type_table(
    event_type: EventType, base_url: str, limit: Callable[[Endpoint], str], timeout: Callable[[float], float]
) -> dict[str, Any]:
    """Return the table of a type with these limits and time-outs, without the duration of its calls."""
    endpoints = [
        {
            "name": one.name,
            "url": f"{base_url.rstrip('/')}/{one.name}",
            "rate_limit": limit(one),
            "timeout_seconds": timeout(one.timeout_seconds),
            **({"budget": one.budget.name} if one.budget else {}),
        }
        for one in event_type.endpoints
    ]
    return {"priority": event_type.priority, "share": event_type.share, "endpoints": endpoints}
