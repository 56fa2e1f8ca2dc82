"""The endpoints: which are not called and why, which limits are too high, which configured times are wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from rlm.admin.endpoints import endpoint_list
from rlm.core import tally
from rlm.core.documents import CallTrouble
from rlm.core.endpoint import EventType
from rlm.core.expected import MEASURED_CALLS, quantile
from rlm.core.text import named, span
from rlm.core.window import Circuit
from rlm.ledger import Store
from rlm.ledger.fitness import Finding, good, warning
from rlm.settings.toml import dotted

Entry = Mapping[str, Any]


#: Endpoints or types to name in a finding; the others are counted.
MOST_NAMED: Final = 5

_REFUSED = (
    "a token that expired, or a URL that moved: correct it in the configuration, restart, and send the dead letters "
    "again with `rlm failed retry`; resuming the endpoint does not help"
)
_ILL = "ask its owner; it is probed after each rest and comes back by itself; `rlm endpoint resume {name}` calls it now"
#: Warn if a median differs by more than this share and this many seconds: the median of all calls that is longer than
#: configured, or that of one endpoint from the median of all.
OFF_SHARE = 0.25
OFF_SECONDS = 0.05
#: A configured time may be this many times as long as the calls take: that is cautious.
CAUTIOUS_TIMES = 2.0


def check_endpoints(store: Store) -> Iterator[Finding]:
    """Check for endpoints and budgets that are shut, grouped by reason, and for types without any open endpoint."""
    entries = endpoint_list(store)
    shut = {entry["name"]: entry for entry in entries if entry["health"] in _WORDS}
    if probing := [entry["name"] for entry in entries if entry["health"] == Circuit.PROBING]:
        yield good(f"probing, one call at a time until one is answered well: {named(probing, MOST_NAMED)}")
    if not shut:
        if not probing:
            yield good("each may be called as its limit allows")
        return
    troubles = _troubles(store)
    for alike in _alike(shut.values()):
        yield _shut(alike, *_cause(alike, troubles))
    if idle := _without_endpoint(store, entries, shut):
        yield warning(
            f"no endpoint of {named(idle, MOST_NAMED)} can be called now; a run leaves over the events for which none "
            "opens in time",
            "see those above; `rlm plan` says what the next run can do",
        )


def _troubles(store: Store) -> list[Sequence[CallTrouble]]:
    """Return the failed calls of the open run, if there is one, and of the last run."""
    run = store.runs.current()
    now = [tally.troubles_of(store.runs.tally(run.id), store.endpoints())] if run else []
    return [*now, *(record.troubles for record in store.runs.recent(1))]


def _cause(alike: Sequence[Entry], troubles: Iterable[Sequence[CallTrouble]]) -> tuple[str, str]:
    """Return the last errors of the failing endpoints, and the remedy; empty texts if unknown."""
    failing = [one["name"] for one in alike if (one["circuit_reason"] or "").startswith("failing")]
    found = ([trouble for trouble in each if trouble.endpoint in failing] for each in troubles)
    theirs = next(filter(None, found), None)
    if not theirs:
        return "", ""
    remedy = _REFUSED if any(tally.is_refusal(trouble.what) for trouble in theirs) else _ILL
    return f" ({tally.in_words(theirs)})", remedy


def _alike(entries: Iterable[Entry]) -> list[list[Entry]]:
    found: dict[object, list[Entry]] = {}
    for one in entries:
        reason = one["health"], one["circuit_reason"], one["paused_by"], one["circuit_seconds"] is None
        found.setdefault(reason, []).append(one)
    return list(found.values())


def _without_endpoint(store: Store, entries: Sequence[Entry], shut: Mapping[str, object]) -> list[str]:
    """Return the types for which every endpoint, or its budget, is shut."""
    served = {
        kind
        for entry in entries
        if entry["kind"] == "endpoint" and not {entry["name"], entry["budget"]} & shut.keys()
        for kind in entry["types"]
    }
    return [one.name for one in store.settings.event_types if one.name not in served]


def _shut(alike: Sequence[Entry], cause: str, mend: str) -> Finding:
    """Return the finding for endpoints that are shut for the same reason, with the time of the last one."""
    first, names, several = alike[0], [one["name"] for one in alike], len(alike) > 1
    by, since, seconds = first["paused_by"], first["paused_at"], max(one["circuit_seconds"] or 0.0 for one in alike)
    lasts = f"{'the last ' if several else ''}for another {span(seconds)}"
    words, of_several, remedy = _WORDS[first["health"]]
    message = (of_several if several else words).format(
        name=names[0],
        number=f"{len(alike):,}",
        names=named(names, MOST_NAMED),
        until="until resumed" if first["circuit_seconds"] is None else lasts,
        by=by or "somebody",
        since=f", since {since}" if since else "",
        also=f"; paused as well, by {by}" if by else "",
        reason=first["circuit_reason"],
    )
    return warning(f"{message}{cause}", (mend or remedy).format(name="NAME" if several else names[0]))


#: By health: the text about one shut endpoint, the text about several, and the remedy.
_WORDS: Final[Mapping[str, tuple[str, str, str]]] = {
    Circuit.PAUSED: (
        "{name} is paused {until}, by {by}{since}",
        "{number} are paused {until}, by {by}: {names}",
        "`rlm endpoint resume {name}`, when it may be called again",
    ),
    Circuit.HELD: (
        "{name} is held {until}: its window cannot be trusted{also}",
        "{number} are held, {until}, because their windows cannot be trusted{also}: {names}",
        "nothing: this ends by itself, but only once no limit can be exceeded",
    ),
    Circuit.RESTING: (
        "{name} rests {until}: it is {reason}",
        "{number} rest, {until}, because they are {reason}: {names}",
        "`rlm status`, or after the run `rlm result`, counts the errors; `rlm endpoint resume {name}` calls it now",
    ),
}


def check_times(store: Store) -> Iterator[Finding]:
    """Compare the configured time of each type with the measured times of all its endpoints together."""
    kept = store.measures.kept()
    for event_type in store.settings.event_types:
        pairs = {(event_type.name, endpoint.name) for endpoint in event_type.endpoints}
        yield _check_type(event_type, {pair[1]: one.milliseconds for pair, one in kept.items() if pair in pairs})


def _check_type(event_type: EventType, durations: Mapping[str, Sequence[float]]) -> Finding:
    name, configured = event_type.name, event_type.processing_seconds
    together = [one for milliseconds in durations.values() for one in milliseconds]
    if len(together) < MEASURED_CALLS:
        measured = "1 call was" if len(together) == 1 else f"{len(together)} calls were"
        return good(f"{measured} measured, too few to compare with the {configured} s configured", name)
    median = _median_seconds(together)
    message = (
        f"completed calls of {name} took {_rounded(median)} s (median of {len(together)}), "
        f"the configuration says {configured} s"
    )
    apart = [
        f"{endpoint} takes {_rounded(alone)} s (median of {len(milliseconds)})"
        for endpoint, milliseconds in durations.items()
        if len(milliseconds) >= MEASURED_CALLS and _is_off(alone := _median_seconds(milliseconds), median)
    ]
    message = "; ".join(filter(None, [message, ", ".join(apart)]))
    if _is_off(median, configured) and (median > configured or configured > CAUTIOUS_TIMES * median):
        key = dotted(("types", name, "processing_seconds"))
        return warning(message, f"set {key} = {_rounded(median)}", name)
    if apart:
        return warning(message, "see what is wrong there; plans use the durations measured at each endpoint", name)
    return good(message, name)


def _is_off(seconds: float, should_be: float) -> bool:
    return abs(seconds - should_be) > max(OFF_SHARE * should_be, OFF_SECONDS)


def _median_seconds(milliseconds: Sequence[float]) -> float:
    return quantile(sorted(milliseconds), 0.50) / 1000


def _rounded(seconds: float) -> float:
    return float(f"{seconds:.2g}")
