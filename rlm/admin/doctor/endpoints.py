"""Which endpoints and budgets get no call whatever their limits allow, why, and which types have none left by that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rlm.admin.endpoints import endpoint_list
from rlm.core import tally
from rlm.core.text import named, span
from rlm.core.window import Circuit
from rlm.ledger.fitness import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rlm.ledger import Store

    Entry = Mapping[str, Any]

#: So many endpoints or types are named in a finding; of the others only the number is told.
MOST_NAMED: Final = 5


def check_endpoints(store: Store) -> Iterator[Finding]:
    """Tell which endpoints and budgets are paused, held or resting, and the types that nothing goes out for.

    Those that are so for the same reason are one finding.

    Raises:
        StoreError: Redis did not answer.
    """
    entries = endpoint_list(store)
    shut = {entry["name"]: entry for entry in entries if entry["health"] in _WORDS}
    probing = [entry["name"] for entry in entries if entry["health"] == Circuit.PROBING]
    if probing:
        told = f"probing, one call at a time until one is answered well: {named(probing, MOST_NAMED)}"
        yield Finding("endpoints", ok=True, message=told)
    if not shut:
        if not probing:
            yield Finding("endpoints", ok=True, message="every one may be called as its limit allows")
        return
    troubles = _troubles(store)
    for alike in _alike(shut.values()):
        message, remedy = (_of_one if len(alike) == 1 else _of_several)(alike)
        cause, mend = _cause(alike, troubles)
        yield _warning(f"{message}{cause}", mend or remedy)
    if idle := _without_endpoint(store, entries, shut):
        yield _warning(
            f"no endpoint of {named(idle, MOST_NAMED)} can be called now; "
            "a run leaves over what none opens for in its time",
            "see those above; `rlm plan` says what the next run can do",
        )


def _troubles(store: Store) -> list[Sequence[Entry]]:
    """Return what went wrong with the calls of the open run, if there is one, and with those of the last."""
    run = store.runs.current()
    now = [tally.troubles_of(store.runs.tally(run.id), store.endpoints())] if run else []
    return [*now, *(record.get("troubles", ()) for record in store.runs.recent(1))]


def _cause(alike: Sequence[Entry], troubles: Iterable[Sequence[Entry]]) -> tuple[str, str]:
    """Return what went wrong last with calls to those that fail, and the remedy; empty texts where that is unknown."""
    failing = [one["name"] for one in alike if one["circuit_reason"] == "failing"]
    found = ([one for one in each if one["endpoint"] in failing] for each in troubles)
    theirs = next(filter(None, found), None)
    if not theirs:
        return "", ""
    remedy = _REFUSED if any(tally.is_refusal(one["what"]) for one in theirs) else _ILL.format(_name(alike))
    return f" ({tally.in_words(theirs)})", remedy


_REFUSED = (
    "a token that ran out, or a URL that moved: put it right in the configuration, restart, and have "
    "`rlm failed retry` send the dead letters again; to resume it does not help"
)
_ILL = "ask its owner; it is probed after each rest and comes back by itself; `rlm endpoint resume {}` calls it now"


def _name(alike: Sequence[Entry]) -> str:
    return str(alike[0]["name"]) if len(alike) == 1 else "NAME"


def _alike(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Put those together that get no call for the same reason."""
    found: dict[object, list[Entry]] = {}
    for one in entries:
        reason = one["health"], one["circuit_reason"], one["paused_by"], one["circuit_seconds"] is None
        found.setdefault(reason, []).append(one)
    return list(found.values())


def _without_endpoint(store: Store, entries: Sequence[Entry], shut: Mapping[str, object]) -> list[str]:
    """Name the types of which every endpoint is shut, or its budget is."""
    served = {
        kind
        for entry in entries
        if entry["kind"] == "endpoint" and not {entry["name"], entry["budget"]} & shut.keys()
        for kind in entry["types"]
    }
    return [one.name for one in store.settings.event_types if one.name not in served]


def _warning(message: str, remedy: str) -> Finding:
    return Finding("endpoints", ok=False, message=message, remedy=remedy, severity=Severity.WARNING)


def _of_one(alike: Sequence[Entry]) -> tuple[str, str]:
    (entry,) = alike
    return _WORDS[entry["health"]](entry)


def _of_several(alike: Sequence[Entry]) -> tuple[str, str]:
    """Say the same of several, and how long the last of them takes."""
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


#: By the health of what gets no call: what to say of it, and the remedy.
_WORDS: Final[Mapping[str, Callable[[Entry], tuple[str, str]]]] = {
    Circuit.PAUSED: _paused,
    Circuit.HELD: _held,
    Circuit.RESTING: _resting,
}
#: What is said of several, and the remedy.
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
