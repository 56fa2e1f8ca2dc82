"""A faster copy of a configuration as TOML, without headers: no secret gets into the file or to the mock API."""

from __future__ import annotations

import math
from typing import Any

from msgspec.structs import asdict

from rlm.core.endpoint import Limit
from rlm.settings import Settings, settings_under
from rlm.settings.secrets import EMBEDDED
from rlm.settings.toml import toml_document, toml_key

#: With a shorter time-out, calls on a busy machine would time out whatever the speed.
_SHORTEST_TIMEOUT_SECONDS = 1.0


def demo_document(settings: Settings, speed: float, base_url: str, prefix: str = "") -> str:
    """Return TOML like `settings`, calling `base_url`/<name>, with times divided by `speed`.

    It is on an embedded server or, with a `prefix`, under that on the Redis of REDIS_URL. Time-outs stay at one second
    or more. Raise ValueError if `speed` is not a finite number above 0.
    """
    if not (math.isfinite(speed) and speed > 0):
        raise ValueError(f"the speed must be a number above 0, not {speed!r}")

    def timeout(seconds: float) -> float:
        return max(seconds / speed, min(seconds, _SHORTEST_TIMEOUT_SECONDS))

    own = settings_under(settings, prefix) if prefix else settings
    place = {} if prefix else {"url": EMBEDDED, "embedded_port": 0}
    tables: dict[str, dict[str, Any]] = {
        "redis": {**place, "prefix": own.redis.prefix},
        "queue": _faster(asdict(own.queue), speed),
        "run": _faster(asdict(settings.run), speed),
        "workers": asdict(settings.workers),
        "retry": {**asdict(settings.retry), "timeout_seconds": timeout(settings.retry.timeout_seconds)},
    }
    for kind in settings.event_types:
        tables[f"types.{toml_key(kind.name)}"] = {
            "priority": kind.priority,
            "share": kind.share,
            "processing_seconds": kind.processing_seconds / speed,
            "endpoints": [
                {
                    "name": endpoint.name,
                    "url": f"{base_url.rstrip('/')}/{endpoint.name}",
                    "rate_limit": _faster_limit(endpoint.limit, speed),
                    "timeout_seconds": timeout(endpoint.timeout_seconds),
                    **({"budget": endpoint.budget.name} if endpoint.budget else {}),
                }
                for endpoint in kind.endpoints
            ],
        }
    for name, budget in settings.budgets.items():
        tables[f"budgets.{toml_key(name)}"] = {"rate_limit": _faster_limit(budget.limit, speed)}
    return toml_document(tables)


def _faster(table: dict[str, Any], speed: float) -> dict[str, Any]:
    return {key: value / speed if key.endswith("_seconds") else value for key, value in table.items()}


def _faster_limit(limit: Limit, speed: float) -> str:
    """Return a limit with shorter periods, without exponents: its notation has none."""
    periods = ((rule.amount, f"{rule.seconds / speed:.9f}".rstrip("0").rstrip(".")) for rule in limit.rules)
    return "; ".join(f"{amount} per {seconds} seconds" for amount, seconds in periods)
