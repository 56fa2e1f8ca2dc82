"""What went wrong with the calls of a run, by endpoint: counted in one place, told the same everywhere. Pure.

Each call that was not answered well is counted in one of a few words (`rlm.delivery.outcome`) in the step that settles
its event, as `trouble:ENDPOINT WHAT` of the run's tally.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rlm.core.endpoint import target_of
from rlm.core.text import named, span

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from rlm.core.endpoint import Endpoint

    Entry = Mapping[str, Any]

#: What a field of a tally begins with that counts calls which went wrong.
FIELD: Final = "trouble:"
#: So many entries a record has at the most, those with the most calls.
MOST_ENTRIES: Final = 100
#: So many troubles, and so many endpoints of one, are named in a sentence; of others only the number is told.
MOST_NAMED: Final = 3

#: Refusals that speak of the endpoint, or of the access to it, and would be the answer to any other event as well.
#: 403 and 404 may be about one event; several in a row are not. 413 and 422 always are.
OF_ENDPOINT: Final = frozenset({301, 302, 303, 307, 308, 401, 402, 403, 404, 405, 406, 407, 410, 411, 415, 421, 426})

_REFUSALS: Final = frozenset(f"HTTP {status}" for status in OF_ENDPOINT)


def counted_in(tally: Mapping[str, int]) -> Iterator[tuple[str, str, int]]:
    """Yield endpoint, word and number of each count of calls that went wrong."""
    for field, number in tally.items():
        if field.startswith(FIELD):
            endpoint, _, what = field.removeprefix(FIELD).partition(" ")
            yield endpoint, what, number


def troubles_of(tally: Mapping[str, int], endpoints: Mapping[str, Endpoint]) -> list[dict[str, Any]]:
    """Return what a record says of the calls that went wrong, the most frequent first.

    `address` is null for an endpoint that is no longer configured.
    """
    found = sorted(counted_in(tally), key=lambda one: (-one[2], *one[:2]))
    addresses = {name: address_of(one.url) for name, one in endpoints.items()}
    return [
        {"endpoint": name, "address": addresses.get(name), "what": what, "calls": number}
        for name, what, number in found[:MOST_ENTRIES]
    ]


def address_of(url: str) -> str:
    """Return host and port of a URL, and nothing else of it: the rest may hold a secret."""
    host, port, _ = target_of(url)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def in_words(troubles: Sequence[Entry]) -> str:
    """Write them in words, those alike at one address together: `3 x connection refused, 10.0.0.7:80, a and b`."""
    alike: dict[tuple[str, str | None], list[Entry]] = {}
    for one in troubles:
        alike.setdefault((one["what"], one["address"]), []).append(one)
    groups = sorted(alike.items(), key=lambda group: -sum(one["calls"] for one in group[1]))
    words = [_group(what, address, entries) for (what, address), entries in groups[:MOST_NAMED]]
    more = len(groups) - MOST_NAMED
    return "; ".join([*words, f"and {more} more, see `rlm result --json`"] if more > 0 else words)


def _group(what: str, address: str | None, entries: Sequence[Entry]) -> str:
    calls, names = sum(one["calls"] for one in entries), [one["endpoint"] for one in entries]
    return ", ".join([f"{calls:,} x {what}", *([address] if address else []), named(names, MOST_NAMED)])


def away_in_words(record: Entry) -> str:
    """Return for how long Redis was away in a run; an empty text where it was not for long enough to tell."""
    seconds = record.get("redis_away_seconds")
    return f"Redis was away for {span(seconds)}" if seconds else ""


def is_refusal(what: str) -> bool:
    """Return whether an endpoint that answers so would answer any other event alike."""
    return what in _REFUSALS


def every_call_failed(record: Entry) -> bool:
    """Return whether calls were made in a run, and not one was answered well."""
    entries = record["by_endpoint"].values()
    return any(one["calls"] for one in entries) and not any(one["completed"] for one in entries)


def ill(record: Entry) -> list[str]:
    """Name the endpoints that were called in a run and answered no call well."""
    return [name for name, one in record["by_endpoint"].items() if one["calls"] and not one["completed"]]


def refused_by(record: Entry, endpoints: Collection[str]) -> int:
    """Count the events of a run that became dead letters because one of `endpoints` refuses whatever it is sent."""
    return sum(
        one["calls"] for one in record.get("troubles", ()) if one["endpoint"] in endpoints and is_refusal(one["what"])
    )
