"""Which endpoints and budgets get no call whatever their limits allow, why, and which types have none left by that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rlm.circuit import Circuit
from rlm.endpoints import endpoint_list
from rlm.store.fitness import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rlm.store import Store

#: So many endpoints and types are named; of the others only the number is told.
MOST_NAMED: Final = 20


def check_endpoints(store: Store) -> Iterator[Finding]:
    """Tell of each endpoint and budget that is paused, held or resting, and of the types that nothing goes out for.

    Raises:
        StoreError: Redis did not answer.
    """
    entries = endpoint_list(store)
    shut = {entry["name"]: entry for entry in entries if entry["circuit"] in _WORDS}
    if not shut:
        yield Finding("endpoints", ok=True, message="every one may be called as its limit allows")
        return
    for entry in list(shut.values())[:MOST_NAMED]:
        yield _warning(*_WORDS[entry["circuit"]](entry))
    if (more := len(shut) - MOST_NAMED) > 0:
        yield _warning(f"{more:,} more get no call", "`rlm endpoint list` shows them")
    if idle := _without_endpoint(store, entries, shut):
        names = ", ".join(idle[:MOST_NAMED])
        others = f" and {len(idle) - MOST_NAMED:,} more types" if len(idle) > MOST_NAMED else ""
        yield _warning(
            f"no endpoint of {names}{others} can be called now; a run leaves over what none opens for in its time",
            "see those above; `rlm plan` says what the next run can do",
        )


def _without_endpoint(store: Store, entries: Sequence[Mapping[str, Any]], shut: Mapping[str, object]) -> list[str]:
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


def _paused(entry: Mapping[str, Any]) -> tuple[str, str]:
    name, seconds = entry["name"], entry["circuit_seconds"]
    until = "until resumed" if seconds is None else f"for another {seconds:.0f} s"
    since = f", since {entry['paused_at']}" if entry["paused_at"] else ""
    return (
        f"{name} is paused {until}, by {entry['paused_by'] or 'somebody'}{since}",
        f"`rlm endpoint resume {name}`, when it may be called again",
    )


def _held(entry: Mapping[str, Any]) -> tuple[str, str]:
    as_well = f"; it is paused as well, by {entry['paused_by']}" if entry["paused_by"] else ""
    return (
        f"{entry['name']} is held for another {entry['circuit_seconds']:.0f} s: its window cannot be trusted{as_well}",
        "nothing: it ends by itself, and not before no limit can be exceeded",
    )


def _open(entry: Mapping[str, Any]) -> tuple[str, str]:
    name = entry["name"]
    return (
        f"{name} rests for another {entry['circuit_seconds']:.0f} s: it is {entry['circuit_reason']}",
        f"`rlm result` counts its errors; once it is well, `rlm endpoint resume {name}` has it called at once",
    )


#: By the circuit of what gets no call: what to say of it, and the remedy.
_WORDS: Final[Mapping[str, Callable[[Mapping[str, Any]], tuple[str, str]]]] = {
    Circuit.PAUSED: _paused,
    Circuit.HELD: _held,
    Circuit.OPEN: _open,
}
