"""Sentences about workers: what each does at this moment, how many are ready. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from rlm.core.text import of_another_configuration, safe_line, span

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


def workers(found: Mapping[str, Any]) -> str:
    """Return how many workers are ready, how many lanes are busy, and how many workers were replaced."""
    one = found["workers"]
    if not one["wanted"] and not one["now"]:
        return "no worker is wanted yet"
    lanes = sum(each["threads"] for each in one["each"])
    busy = sum(each["busy"] for each in one["each"])
    other = one.get("other_configuration", 0)  # a status of an older version has none
    told = [f"{max(0, one['ready'] - other)} of {one['wanted']} ready, {busy} of {lanes} lanes busy"]
    told += [f"{of_another_configuration(other)}, see `rlm doctor`"] if other else []
    return "; ".join([*told, f"{one['restarted']} had to be replaced"] if one["restarted"] else told)


def _call(call: Mapping[str, Any]) -> str:
    event = safe_line(call["event_id"].rpartition(":")[0] or call["event_id"])
    if call["endpoint"] is None:
        return f"{event} waits for a slot"
    return f"{event} at {safe_line(call['endpoint'])} {span(call['seconds'] or 0)}"
