"""Which hosts, endpoints and budgets of a status are unwell: why, since when, and what to do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from rlm.admin.hosts import hosts_unwell
from rlm.core.text import named, safe_line, span
from rlm.core.window import RECOVERING, WELL, Circuit

#: The most endpoints to name in a sentence.
MOST_NAMED: Final = 3


def shut(found: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the endpoints and budgets that are unwell, by name."""
    entries = found["by_endpoint"] | found.get("by_budget", {})
    return {name: entry for name, entry in entries.items() if entry.get("health", "ok") not in WELL}


def unwell(found: Mapping[str, Any]) -> list[str]:
    """Return which hosts, endpoints and budgets are unwell, and why; grouped by reason."""
    return [*hosts_unwell(found), *endpoints_unwell(found, shut(found))]


def endpoints_unwell(found: Mapping[str, Any], names: Collection[str]) -> list[str]:
    """Return which endpoints and budgets of these are unwell, why and since when; grouped by reason."""
    alike: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for name, entry in shut(found).items():
        # One that fails rests and is probed in turn, which is not worth a word.
        failing = entry["health"] in RECOVERING and bool(entry.get("since"))
        state = None if failing else (entry["health"], entry.get("circuit_seconds") is None)
        if name in names:
            alike.setdefault((state, entry.get("circuit_reason")), {})[safe_line(name)] = entry
    return [_unwell(found, group) for group in alike.values()]


def _unwell(found: Mapping[str, Any], alike: Mapping[str, Mapping[str, Any]]) -> str:
    names, entry = list(alike), max(alike.values(), key=lambda entry: entry.get("circuit_seconds") or 0.0)
    began = since_words(min((one["since"] for one in alike.values() if one.get("since")), default=None), found)
    told = f"{entry['circuit_reason'] if began and entry['health'] in RECOVERING else healths(entry)[0]}{began}"
    if len(names) == 1:
        return f"{names[0]} {told}"
    return f"{len(names):,} {told.replace(' for ', ' for up to ')}: {named(names, MOST_NAMED)}"


def remedy(found: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return what an operator can do about endpoints or budgets that are shut; '' if they open by themselves."""
    health, name = shut(found)[names[0]]["health"], safe_line(names[0]) if len(names) == 1 else "NAME"
    if health == Circuit.PAUSED:
        return f"`rlm endpoint resume {name}` ends a pause"
    pause = f"until it works, `rlm endpoint pause {name}` keeps events from being spent on probes"
    return f"{pause}; then `rlm endpoint resume {name}` calls it at once" if health in RECOVERING else ""


def healths(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the health of an endpoint in three lengths: with reason and time, with time, and alone."""
    health = str(entry["health"])
    why = f" ({entry['circuit_reason']})" if entry.get("circuit_reason") else ""
    left = f" for {span(entry['circuit_seconds'])}" if entry.get("circuit_seconds") is not None else ""
    return f"{health}{why}{left}", f"{health}{left}", health


def since_words(moment: str | None, found: Mapping[str, Any]) -> str:
    """Return ` since` a moment in UTC, with the date if it is not that of the document; '' if it is not known."""
    if not moment:
        return ""
    today = str(found.get("as_of") or found.get("next_tick") or moment)[:10]
    return f" since {'' if moment[:10] == today else f'{moment[:10]} '}{moment[11:19]} UTC"
