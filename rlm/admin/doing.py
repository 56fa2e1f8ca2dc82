"""What a worker does at this moment, in words. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from rlm.core.text import safe_line, span

if TYPE_CHECKING:
    from collections.abc import Mapping


def doing(worker: Mapping[str, Any], *, events: bool) -> str:
    """Return what a worker does: its state, or which endpoints it calls; with `events` for which events, too."""
    if worker.get("other_configuration"):
        return "another configuration"
    if worker["state"] != "ready":
        return str(worker["state"])
    if events:
        return ", ".join(_call(call) for call in worker["calls"]) or "idle"
    names = Counter(safe_line(call["endpoint"] or "waiting for a slot") for call in worker["calls"])
    return ", ".join(f"{name} x{number}" if number > 1 else name for name, number in names.items()) or "idle"


def _call(call: Mapping[str, Any]) -> str:
    event = safe_line(call["event_id"].rpartition(":")[0] or call["event_id"])
    if call["endpoint"] is None:
        return f"{event} waits for a slot"
    return f"{event} at {safe_line(call['endpoint'])} {span(call['seconds'] or 0)}"
