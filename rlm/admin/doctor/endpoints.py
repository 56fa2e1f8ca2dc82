"""The endpoints: which get no call and why, which limits are set too high, which configured times are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rlm.admin.doctor.findings import good, warning
from rlm.admin.endpoints import endpoint_list
from rlm.core import tally
from rlm.core.expected import MEASURED_CALLS, quantile
from rlm.core.text import named, span
from rlm.core.window import Circuit
from rlm.ledger.breaker import limits_too_high
from rlm.settings.toml import dotted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rlm.core.endpoint import EventType
    from rlm.core.expected import Measured, Pair
    from rlm.ledger import Store
    from rlm.ledger.fitness import Finding

    Entry = Mapping[str, Any]


#: Endpoints or types named in a finding; the others are counted.
MOST_NAMED: Final = 5

_REFUSED = (
    "a token that ran out, or a URL that moved: put it right in the configuration, restart, and have "
    "`rlm failed retry` send the dead letters again; to resume it does not help"
)
_ILL = "ask its owner; it is probed after each rest and comes back by itself; `rlm endpoint resume {}` calls it now"
#: Warn if a median differs by more than this share and this many seconds: one of all calls that is longer than
#: configured, or one of an endpoint from that of all.
OFF_SHARE = 0.25
OFF_SECONDS = 0.05
#: A configured time may be this many times as long as calls take; that is cautious.
CAUTIOUS_TIMES = 2.0


def check_endpoints(store: Store) -> Iterator[Finding]:
    """Check for endpoints and budgets that are paused, held or resting, and for types that have no endpoint left.

    Those with the same reason are one finding.

    Raises:
        StoreError: Redis did not answer.
    """
    entries = endpoint_list(store)
    shut = {entry["name"]: entry for entry in entries if entry["health"] in _WORDS}
    probing = [entry["name"] for entry in entries if entry["health"] == Circuit.PROBING]
    if probing:
        told = f"probing, one call at a time until one is answered well: {named(probing, MOST_NAMED)}"
        yield good("endpoints", told)
    if not shut:
        if not probing:
            yield good("endpoints", "every one may be called as its limit allows")
        return
    troubles = _troubles(store)
    for alike in _alike(shut.values()):
        message, remedy = (_of_one if len(alike) == 1 else _of_several)(alike)
        cause, mend = _cause(alike, troubles)
        yield warning("endpoints", f"{message}{cause}", mend or remedy)
    if idle := _without_endpoint(store, entries, shut):
        yield warning(
            "endpoints",
            f"no endpoint of {named(idle, MOST_NAMED)} can be called now; "
            "a run leaves over what none opens for in its time",
            "see those above; `rlm plan` says what the next run can do",
        )


def _troubles(store: Store) -> list[Sequence[Entry]]:
    """Return what went wrong with the calls of the open run, if there is one, and of the last run."""
    run = store.runs.current()
    now = [tally.troubles_of(store.runs.tally(run.id), store.endpoints())] if run else []
    return [*now, *(record.get("troubles", ()) for record in store.runs.recent(1))]


def _cause(alike: Sequence[Entry], troubles: Iterable[Sequence[Entry]]) -> tuple[str, str]:
    """Return what went wrong last with calls to the failing ones, and the remedy; empty texts if unknown."""
    failing = [one["name"] for one in alike if one["circuit_reason"] == "failing"]
    found = ([one for one in each if one["endpoint"] in failing] for each in troubles)
    theirs = next(filter(None, found), None)
    if not theirs:
        return "", ""
    remedy = _REFUSED if any(tally.is_refusal(one["what"]) for one in theirs) else _ILL.format(_name(alike))
    return f" ({tally.in_words(theirs)})", remedy


def _name(alike: Sequence[Entry]) -> str:
    return str(alike[0]["name"]) if len(alike) == 1 else "NAME"


def _alike(entries: Iterable[Entry]) -> list[list[Entry]]:
    found: dict[object, list[Entry]] = {}
    for one in entries:
        reason = one["health"], one["circuit_reason"], one["paused_by"], one["circuit_seconds"] is None
        found.setdefault(reason, []).append(one)
    return list(found.values())


def _without_endpoint(store: Store, entries: Sequence[Entry], shut: Mapping[str, object]) -> list[str]:
    """Return the types of which every endpoint, or its budget, is shut."""
    served = {
        kind
        for entry in entries
        if entry["kind"] == "endpoint" and not {entry["name"], entry["budget"]} & shut.keys()
        for kind in entry["types"]
    }
    return [one.name for one in store.settings.event_types if one.name not in served]


def _of_one(alike: Sequence[Entry]) -> tuple[str, str]:
    (entry,) = alike
    return _WORDS[entry["health"]](entry)


def _of_several(alike: Sequence[Entry]) -> tuple[str, str]:
    """Return message and remedy for several, with the time of the last of them."""
    first, seconds = alike[0], [one["circuit_seconds"] for one in alike]
    until = "until resumed" if first["circuit_seconds"] is None else f"the last for another {span(max(seconds))}"
    words, remedy = _OF_SEVERAL[first["health"]]
    by = f", by {first['paused_by'] or 'somebody'}" if first["health"] == Circuit.PAUSED else ""
    why = words.format(until=until, reason=first["circuit_reason"])
    also = f"; paused as well, by {first['paused_by']}" if first["paused_by"] and not by else ""
    return f"{len(alike):,} {why}{by}{also}: {named([one['name'] for one in alike], MOST_NAMED)}", remedy


def _paused(entry: Entry) -> tuple[str, str]:
    name, seconds = entry["name"], entry["circuit_seconds"]
    until = "until resumed" if seconds is None else f"for another {span(seconds)}"
    since = f", since {entry['paused_at']}" if entry["paused_at"] else ""
    return (
        f"{name} is paused {until}, by {entry['paused_by'] or 'somebody'}{since}",
        f"`rlm endpoint resume {name}`, when it may be called again",
    )


def _held(entry: Entry) -> tuple[str, str]:
    as_well = f"; it is paused as well, by {entry['paused_by']}" if entry["paused_by"] else ""
    return (
        f"{entry['name']} is held for another {span(entry['circuit_seconds'])}: its window cannot be trusted{as_well}",
        "nothing: it ends by itself, and not before no limit can be exceeded",
    )


def _resting(entry: Entry) -> tuple[str, str]:
    name = entry["name"]
    return (
        f"{name} rests for another {span(entry['circuit_seconds'])}: it is {entry['circuit_reason']}",
        f"`rlm status`, or after the run `rlm result`, counts its errors; `rlm endpoint resume {name}` calls it now",
    )


#: Message and remedy for one that gets no call, by its health.
_WORDS: Final[Mapping[str, Callable[[Entry], tuple[str, str]]]] = {
    Circuit.PAUSED: _paused,
    Circuit.HELD: _held,
    Circuit.RESTING: _resting,
}
#: Message and remedy for several.
_OF_SEVERAL: Final[Mapping[str, tuple[str, str]]] = {
    Circuit.PAUSED: ("are paused {until}", "`rlm endpoint resume NAME` for each, when it may be called again"),
    Circuit.HELD: (
        "are held, {until}, as their windows cannot be trusted",
        "nothing: it ends by itself, and not before no limit can be exceeded",
    ),
    Circuit.RESTING: (
        "rest, {until}, as they are {reason}",
        "`rlm status`, or after the run `rlm result`, counts their errors; `rlm endpoint resume NAME` calls one now",
    ),
}


def check_limits(store: Store) -> Iterator[Finding]:
    """Check for endpoints that refused calls which their limits allow.

    Raises:
        StoreError: Redis did not answer.
    """
    found = limits_too_high(store)
    for one in found:
        yield warning("limits", one.sentence, f"{one.remedy}; somebody else may call with the same key as well")
    if not found:
        yield good("limits", "no endpoint refuses what its limit allows")


def check_times(types: Sequence[EventType], kept: Mapping[Pair, Measured]) -> Iterator[Finding]:
    """Compare the configured time of each type with the measured times at all its endpoints together."""
    for event_type in types:
        durations = {
            endpoint.name: kept[event_type.name, endpoint.name].milliseconds
            for endpoint in event_type.endpoints
            if (event_type.name, endpoint.name) in kept
        }
        yield _check_type(event_type, durations)


def _check_type(event_type: EventType, durations: Mapping[str, Sequence[float]]) -> Finding:
    name, configured = f"times.{event_type.name}", event_type.processing_seconds
    together = [one for milliseconds in durations.values() for one in milliseconds]
    if len(together) < MEASURED_CALLS:
        measured = "1 call was" if len(together) == 1 else f"{len(together)} calls were"
        message = f"{measured} measured, too few to compare with the {configured} s configured"
        return good(name, message)
    median = _median_seconds(together)
    takes = f"completed calls of {event_type.name} took {_rounded(median)} s (median of {len(together)})"
    message = f"{takes}, the configuration says {configured} s"
    apart = [
        f"{endpoint} takes {_rounded(alone)} s (median of {len(milliseconds)})"
        for endpoint, milliseconds in durations.items()
        if len(milliseconds) >= MEASURED_CALLS and _is_off(alone := _median_seconds(milliseconds), median)
    ]
    if apart:
        message += f"; {', '.join(apart)}"
    if _is_off(median, configured) and (median > configured or configured > CAUTIOUS_TIMES * median):
        key = dotted(("types", event_type.name, "processing_seconds"))
        remedy = f"set {key} = {_rounded(median)}"
        return warning(name, message, remedy)
    if apart:
        remedy = "see what is wrong there; plans reckon with what is measured of each endpoint"
        return warning(name, message, remedy)
    return good(name, message)


def _is_off(seconds: float, should_be: float) -> bool:
    return abs(seconds - should_be) > max(OFF_SHARE * should_be, OFF_SECONDS)


def _median_seconds(milliseconds: Sequence[float]) -> float:
    return quantile(sorted(milliseconds), 0.50) / 1000


def _rounded(seconds: float) -> float:
    """Round to two digits, for a file."""
    return float(f"{seconds:.2g}")
