"""The built-in configuration: the sections' own defaults, and five types of four endpoints."""

from __future__ import annotations

from typing import Any

from rlm.settings.document import SECTIONS

_BASE_URL = "http://127.0.0.1:8090"
_RATE_LIMIT = "30/minute"
_OVERFLOW_ENDPOINTS = 3

#: Type, priority, seconds a call, primary endpoint.
_TYPES = (
    ("REBALANCE_NEEDED", 5, 2.0, "rebalance_api"),
    ("OPEN_POSITION_DETECTED", 4, 1.5, "open_position_api"),
    ("OPEN_ORDER_DETECTED", 3, 1.0, "open_order_api"),
    ("NEW_BALANCE_UPDATE", 2, 0.8, "balance_update_api"),
    ("BALANCE_CHECK_REQUIRED", 1, 1.2, "balance_check_api"),
)


def built_in_sections() -> dict[str, Any]:
    """Return every section but the types with its defaults."""
    return {name: section().model_dump() for name, section in SECTIONS.items()}


def built_in_types() -> dict[str, Any]:
    """Return the types used where the file has none."""
    return {
        name: {
            "priority": priority,
            "processing_seconds": seconds,
            "rate_limit": _RATE_LIMIT,
            "endpoints": [{"name": endpoint, "url": f"{_BASE_URL}/{endpoint}"} for endpoint in _endpoints(primary)],
        }
        for name, priority, seconds, primary in _TYPES
    }


def _endpoints(primary: str) -> list[str]:
    return [primary, *(f"overflow_{primary}_{number}" for number in range(1, _OVERFLOW_ENDPOINTS + 1))]
