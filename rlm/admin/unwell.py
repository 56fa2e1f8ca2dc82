"""Which hosts, endpoints and budgets of a status are unwell: why, since when, and what to do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, TypeAlias

from rlm.admin.hosts import hosts_unwell
from rlm.core.documents import EndpointView, LiveCallCounts, Now, RunStatus
from rlm.core.text import named, safe_line, span
from rlm.core.window import RECOVERING, WELL, Circuit

#: The most endpoints to name in a sentence.
MOST_NAMED: Final = 3
#: What has the health of an endpoint or a budget.
Health: TypeAlias = EndpointView | LiveCallCounts


def shut(found: Now) -> dict[str, Health]:
    """Return the endpoints and budgets that are unwell, by name."""
    entries: dict[str, Health] = {**found.by_endpoint, **(found.by_budget if isinstance(found, RunStatus) else {})}
    return {name: entry for name, entry in entries.items() if entry.health not in WELL}


def unwell(found: Now) -> list[str]:
    """Return which hosts, endpoints and budgets are unwell, and why; grouped by reason."""
    return [*hosts_unwell(found.hosts), *endpoints_unwell(found, shut(found))]


def endpoints_unwell(found: Now, names: Collection[str]) -> list[str]:
    """Return which endpoints and budgets of these are unwell, why and since when; grouped by reason."""
    alike: dict[tuple[object, ...], dict[str, Health]] = {}
    for name, entry in shut(found).items():
        # One that fails rests and is probed in turn, which is not worth a word.
        failing = entry.health in RECOVERING and bool(entry.since)
        state = None if failing else (entry.health, entry.circuit_seconds is None)
        if name in names:
            alike.setdefault((state, entry.circuit_reason), {})[safe_line(name)] = entry
    return [_unwell(found, group) for group in alike.values()]


def _unwell(found: Now, alike: Mapping[str, Health]) -> str:
    names, entry = list(alike), max(alike.values(), key=lambda entry: entry.circuit_seconds or 0.0)
    began = since_words(min((one.since for one in alike.values() if one.since), default=None), found)
    told = f"{entry.circuit_reason if began and entry.health in RECOVERING else healths(entry)[0]}{began}"
    if len(names) == 1:
        return f"{names[0]} {told}"
    return f"{len(names):,} {told.replace(' for ', ' for up to ')}: {named(names, MOST_NAMED)}"


def remedy(found: Now, names: Sequence[str]) -> str:
    """Return what an operator can do about endpoints or budgets that are shut; '' if they open by themselves."""
    health, name = shut(found)[names[0]].health, safe_line(names[0]) if len(names) == 1 else "NAME"
    if health == Circuit.PAUSED:
        return f"`rlm endpoint resume {name}` ends a pause"
    pause = f"until it works, `rlm endpoint pause {name}` keeps events from being spent on probes"
    return f"{pause}; then `rlm endpoint resume {name}` calls it at once" if health in RECOVERING else ""


def healths(entry: Health) -> tuple[str, ...]:
    """Return the health of an endpoint in three lengths: with reason and time, with time, and alone."""
    health = str(entry.health)
    why = f" ({entry.circuit_reason})" if entry.circuit_reason else ""
    left = f" for {span(entry.circuit_seconds)}" if entry.circuit_seconds is not None else ""
    return f"{health}{why}{left}", f"{health}{left}", health


def since_words(moment: str | None, found: Now) -> str:
    """Return ` since` a moment in UTC, with the date if it is not that of the document; '' if it is not known."""
    if not moment:
        return ""
    today = (found.as_of if isinstance(found, RunStatus) else found.next_tick)[:10]
    return f" since {'' if moment[:10] == today else f'{moment[:10]} '}{moment[11:19]} UTC"
