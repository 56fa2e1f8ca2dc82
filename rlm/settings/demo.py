"""A faster copy of a configuration, as the text of a file that all processes of a demonstration read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rlm.settings.masking import EMBEDDED
from rlm.settings.toml import toml_document, toml_key

if TYPE_CHECKING:
    from rlm.core.endpoint import Endpoint, EventType, Limit
    from rlm.settings.effective import Settings

#: Below this a busy machine would time out by itself, whatever the speed.
_SHORTEST_TIMEOUT_SECONDS = 1.0


def demo_document(settings: Settings, speed: float, base_url: str) -> str:
    """Return TOML like `settings` with every time divided by `speed`, on an embedded server, calling `base_url`/<name>.

    Time-outs stay at a second or more. Headers are left out, so that no secret gets into the file or to the mock API.

    Raises:
        ValueError: `speed` is not a finite number above 0.
    """
    if not (math.isfinite(speed) and speed > 0):
        raise ValueError(f"the speed must be a number above 0, not {speed!r}")
    tables = {
        "redis": {"url": EMBEDDED, "embedded_port": 0, "prefix": settings.redis.prefix},
        "queue": _faster(settings.queue.model_dump(), speed),
        "run": _faster(settings.run.model_dump(), speed),
        "workers": settings.workers.model_dump(),
        "retry": {**settings.retry.model_dump(), "timeout_seconds": _timeout(settings.retry.timeout_seconds, speed)},
    }
    for event_type in settings.event_types:
        tables[f"types.{toml_key(event_type.name)}"] = _type_table(event_type, speed, base_url.rstrip("/"))
    for name, budget in settings.budgets.items():
        tables[f"budgets.{toml_key(name)}"] = {"rate_limit": _faster_limit(budget.limit, speed)}
    return toml_document(tables)


def _faster(table: dict[str, Any], speed: float) -> dict[str, Any]:
    return {key: value / speed if key.endswith("_seconds") else value for key, value in table.items()}


def _timeout(seconds: float, speed: float) -> float:
    return max(seconds / speed, min(seconds, _SHORTEST_TIMEOUT_SECONDS))


def _type_table(event_type: EventType, speed: float, base_url: str) -> dict[str, Any]:
    return {
        "priority": event_type.priority,
        "share": event_type.share,
        "processing_seconds": event_type.processing_seconds / speed,
        "endpoints": [_endpoint_table(endpoint, speed, base_url) for endpoint in event_type.endpoints],
    }


def _endpoint_table(endpoint: Endpoint, speed: float, base_url: str) -> dict[str, Any]:
    table = {
        "name": endpoint.name,
        "url": f"{base_url}/{endpoint.name}",
        "rate_limit": _faster_limit(endpoint.limit, speed),
        "timeout_seconds": _timeout(endpoint.timeout_seconds, speed),
    }
    return {**table, "budget": endpoint.budget.name} if endpoint.budget else table


def _faster_limit(limit: Limit, speed: float) -> str:
    return "; ".join(f"{rule.amount} per {_decimal(rule.seconds / speed)} seconds" for rule in limit.rules)


def _decimal(seconds: float) -> str:
    """Write without an exponent, which a limit's notation does not have."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".")
