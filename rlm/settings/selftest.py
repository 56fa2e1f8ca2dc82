"""A small copy of a configuration for a self-test: the same types, endpoints and kinds of limits, over in seconds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any

from rlm.settings.toml import toml_document, toml_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rlm.core.endpoint import Endpoint, EventType, Limit
    from rlm.settings.effective import Settings

#: The period of a limit's shortest rule; that of its second is twice that, and so on, seconds.
PERIOD_SECONDS = 1.0
#: Calls of one type that an endpoint lets through in that period, where it is not fewer anyway.
CALLS = 2
#: Events of a type beyond what fits into the first period, so that a limit has something to hold back.
BEYOND = 2
#: The most that fits into the first period, and from so many types on there are only those beyond.
MOST_AT_ONCE = 8
MANY_TYPES = 20

_PROCESSING_SECONDS = 0.05
_TIMEOUT_SECONDS = 5.0
_GUARD_SECONDS = (0.05, 0.5)
_WINDOW_SECONDS = 30.0
#: No tick comes while a test runs: its run is asked for, and a self-test is not a day long.
_A_DAY = 86_400.0
_WORKERS = 2
_PERIODS_OF_A_BUDGET = 3
_LISTS = ("events", "processing", "failed")


def settings_under(settings: Settings, prefix: str) -> Settings:
    """Return `settings` with all keys under `prefix`, the three lists as well."""
    lists = {name: f"{prefix}_{name}" for name in _LISTS}
    return replace(
        settings,
        redis=settings.redis.model_copy(update={"prefix": prefix}),
        queue=settings.queue.model_copy(update=lists),
    )


def selftest_document(settings: Settings, prefix: str, base_url: str) -> str:
    """Return TOML like `settings`, small and fast, under `prefix`, calling `base_url`/<name> and nothing else.

    Headers are left out, so that no secret gets into the file or to the mock API, and so is where Redis is.
    """
    events, own = events_by_type(settings), settings_under(settings, prefix)
    users = Counter(endpoint.name for one in settings.event_types for endpoint in one.endpoints)
    guard = min(max(settings.run.guard_seconds, _GUARD_SECONDS[0]), _GUARD_SECONDS[1])
    tables: dict[str, dict[str, Any]] = {
        "redis": {"prefix": own.redis.prefix},
        "queue": {name: getattr(own.queue, name) for name in _LISTS},
        "run": {"window_seconds": _WINDOW_SECONDS, "every_seconds": _A_DAY, "guard_seconds": guard},
        "workers": {"min": 0, "max": min(_WORKERS, settings.workers.max), "threads": settings.workers.threads},
        "retry": {"timeout_seconds": min(settings.retry.timeout_seconds, _TIMEOUT_SECONDS)},
    }
    for one in settings.event_types:
        tables[f"types.{toml_key(one.name)}"] = _type_table(one, users, base_url.rstrip("/"))
    for name, budget in settings.budgets.items():
        calls = sum(events[one.name] for one in settings.event_types if _names(one, name))
        limit = _smaller(budget.limit, max(CALLS, ceil(calls / _PERIODS_OF_A_BUDGET)))
        tables[f"budgets.{toml_key(name)}"] = {"rate_limit": limit}
    return toml_document(tables)


def events_by_type(settings: Settings) -> dict[str, int]:
    """Tell how many events of each type there are to be: a few more than fit into the first period."""
    if len(settings.event_types) > MANY_TYPES:
        return {one.name: BEYOND for one in settings.event_types}
    return {
        one.name: BEYOND + min(MOST_AT_ONCE, sum(_first_calls(endpoint) for endpoint in one.endpoints))
        for one in settings.event_types
    }


def _first_calls(endpoint: Endpoint) -> int:
    return min(CALLS, *(rule.amount for rule in endpoint.limit.rules))


def _names(event_type: EventType, budget: str) -> bool:
    return any(one.budget and one.budget.name == budget for one in event_type.endpoints)


def _type_table(event_type: EventType, users: Mapping[str, int], base_url: str) -> dict[str, Any]:
    return {
        "priority": event_type.priority,
        "share": event_type.share,
        "processing_seconds": min(event_type.processing_seconds, _PROCESSING_SECONDS),
        "endpoints": [_endpoint_table(one, users[one.name], base_url) for one in event_type.endpoints],
    }


def _endpoint_table(endpoint: Endpoint, users: int, base_url: str) -> dict[str, Any]:
    table = {
        "name": endpoint.name,
        "url": f"{base_url}/{endpoint.name}",
        "rate_limit": _smaller(endpoint.limit, CALLS * users),
        "timeout_seconds": min(endpoint.timeout_seconds, _TIMEOUT_SECONDS),
    }
    return {**table, "budget": endpoint.budget.name} if endpoint.budget else table


def _smaller(limit: Limit, calls: int) -> str:
    """Write a limit of as many rules, in the same order of their periods, that a few calls reach."""
    rules = sorted(limit.rules, key=lambda rule: rule.seconds)
    return "; ".join(
        f"{min(rule.amount, calls * place)} per {PERIOD_SECONDS * place} second"
        for place, rule in enumerate(rules, start=1)
    )
