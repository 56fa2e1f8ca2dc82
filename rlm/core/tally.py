"""What is counted: the troubles of a run's calls by endpoint, and the totals over all runs with their histograms. Pure.

Each call that was not answered well is counted in one of a few words (`rlm.delivery.outcome`) in the step that settles
its event, as `trouble:ENDPOINT WHAT` of the run's tally.

The totals are one hash of whole numbers, which only grow. Closing a run moves its counts there, `what:name`, with

- `leftover:TYPE`, `runs:STATE`,
- histograms: `what<=BOUND:NAME` counts what took at most that many seconds and more than the bound before, and
  `what_us:NAME` sums their microseconds: whole numbers, so that no rounding ever lets a counter go back.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rlm.core.endpoint import Endpoint, EventType, target_of
from rlm.core.text import named, span

if TYPE_CHECKING:
    from rlm.core.expected import Completed

    Entry = Mapping[str, Any]

#: The prefix of the fields of a tally that count calls which went wrong.
FIELD: Final = "trouble:"
#: The most entries in a record: those with the most calls.
MOST_ENTRIES: Final = 100
#: The most troubles, and endpoints of one, that a sentence names; of others it has the number.
MOST_NAMED: Final = 3

#: Refusals that concern the endpoint, or the access to it, if there are several in a row: the contract names these. Any
#: other 3xx or 4xx is about its one event, whatever HTTP makes of it.
OF_ENDPOINT: Final = frozenset({401, 403, 404, 405, 410})

_REFUSALS: Final = frozenset(f"HTTP {status}" for status in OF_ENDPOINT)

#: The histograms and their bounds in seconds: `call` from the request to the answer, `wait` from an event's claim to
#: its call's slot, `answer` from when an event was taken to the answer that completed it, `run` from a run's start to
#: its close, `forecast` the error of the plan.
BOUNDS: Final[Mapping[str, tuple[float, ...]]] = {
    "call": (0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 30),
    "wait": (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
    "answer": (1, 5, 15, 30, 60, 120, 180, 300, 600, 1800, 3600),
    "run": (1, 5, 15, 30, 60, 90, 120, 150, 180, 300, 600, 1800, 3600),
    "forecast": (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
}

#: A first call follows its release within this time, seconds.
TRAVEL_SECONDS = 1.0

_MICROSECONDS = 1_000_000
#: Only these runs end as planned; others were cut off.
_FORESEEN = frozenset({"completed", "partial"})


def counted_in(tally: Mapping[str, int]) -> Iterator[tuple[str, str, int]]:
    """Yield (endpoint, word, number) for each count of calls that went wrong."""
    for field, number in tally.items():
        if field.startswith(FIELD):
            endpoint, _, what = field.removeprefix(FIELD).partition(" ")
            yield endpoint, what, number


def troubles_of(
    tally: Mapping[str, int], endpoints: Mapping[str, Endpoint], unreached: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Return the entries of a record for the calls that went wrong, the most frequent first.

    Endpoints that are `unreached` by any host, with what calls fail with there, have one even without a call. `address`
    is null for an endpoint that is no longer configured.
    """
    calls = dict.fromkeys((unreached or {}).items(), 0)
    calls |= {(name, what): number for name, what, number in counted_in(tally)}
    found = sorted(((*of, number) for of, number in calls.items()), key=lambda one: (-one[2], *one[:2]))
    addresses = {name: address_of(one.url) for name, one in endpoints.items()}
    return [
        {"endpoint": name, "address": addresses.get(name), "what": what, "calls": number}
        for name, what, number in found[:MOST_ENTRIES]
    ]


def with_trouble(
    what: str, tally: Mapping[str, int], types: Sequence[EventType], most: Mapping[str, int]
) -> dict[str, int]:
    """Return by type how many calls had the trouble `what`, at most so many: those that types share go to the first."""
    calls = Counter({endpoint: number for endpoint, word, number in counted_in(tally) if word == what})
    found = dict.fromkeys((kind.name for kind in types), 0)
    for kind in types:
        for endpoint in kind.endpoints:
            number = min(calls[endpoint.name], most.get(kind.name, 0) - found[kind.name])
            calls[endpoint.name] -= number
            found[kind.name] += number
    return found


def address_of(url: str) -> str:
    """Return host and port of a URL; the rest may hold a secret."""
    host, port, _ = target_of(url)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def in_words(troubles: Sequence[Entry]) -> str:
    """Return the troubles in words, the most frequent: `3 x connection refused, a and b at 10.0.0.7:80`."""
    words = each_in_words(troubles)
    more = len(words) - MOST_NAMED
    return "; ".join([*words[:MOST_NAMED], f"and {more} more, see `rlm result --json`"] if more > 0 else words)


def each_in_words(troubles: Sequence[Entry], *, addresses: bool = True) -> list[str]:
    """Return each of the troubles in words, those of one kind and address together, the most frequent first."""
    alike: dict[tuple[str, str | None], list[Entry]] = {}
    for one in troubles:
        alike.setdefault((one["what"], one["address"] if addresses else None), []).append(one)
    groups = sorted(alike.items(), key=lambda group: -sum(one["calls"] for one in group[1]))
    return [_group(what, address, entries) for (what, address), entries in groups]


def _group(what: str, address: str | None, entries: Sequence[Entry]) -> str:
    calls, names = sum(one["calls"] for one in entries), [one["endpoint"] for one in entries]
    where = f"{named(names, MOST_NAMED)}{f' at {address}' if address else ''}"
    return f"{calls:,} x {what}, {where}" if calls else f"no host reaches {where}: {what}"


def away_in_words(record: Entry) -> str:
    """Return how long Redis was away in a run, in words; empty if that was too short to tell."""
    seconds = record.get("redis_away_seconds")
    return f"Redis was away for {span(seconds)}" if seconds else ""


def is_refusal(what: str) -> bool:
    """Return whether an endpoint with this answer would give it to any other event as well."""
    return what in _REFUSALS


def every_call_failed(record: Entry) -> bool:
    """Return whether a run made calls of which none succeeded."""
    entries = record["by_endpoint"].values()
    return any(one["calls"] for one in entries) and not any(one["completed"] for one in entries)


def ill(record: Entry) -> list[str]:
    """Return the endpoints that were called in a run without any success."""
    return [name for name, one in record["by_endpoint"].items() if one["calls"] and not one["completed"]]


def refused_by(record: Entry, endpoints: Collection[str]) -> int:
    """Return how many events of a run became dead letters because one of `endpoints` refuses everything."""
    return sum(
        one["calls"] for one in record.get("troubles", ()) if one["endpoint"] in endpoints and is_refusal(one["what"])
    )


class Histogram(msgspec.Struct, frozen=True):
    """How many took at most as many seconds as each bound, the last of which is infinite; and the sum, `seconds`."""

    at_most: Mapping[float, int]
    seconds: float

    @property
    def number(self) -> int:
        """How many there are."""
        return self.at_most[math.inf]


def observe(fields: Counter[str], what: str, seconds: float, name: str = "") -> None:
    """Count one more in the histogram of `what` of `name`; a negative time, of a clock set back, counts as 0."""
    seconds = max(0.0, seconds)
    bound = next((one for one in BOUNDS[what] if seconds <= one), math.inf)
    fields[f"{what}<={bound:g}:{name}"] += 1
    fields[f"{what}_us:{name}"] += round(seconds * _MICROSECONDS)


def histograms(fields: Mapping[str, int], what: str) -> dict[str, Histogram]:
    """Return the histograms of `what` by name. Counts for a bound of an older version go to the next one."""
    counts: dict[str, Counter[float]] = {}
    start = f"{what}<="
    for field, number in fields.items():
        if field.startswith(start):
            bound, _, name = field.removeprefix(start).partition(":")
            counts.setdefault(name, Counter())[float(bound)] += number
    bounds, found = (*BOUNDS[what], math.inf), {}
    for name, numbers in counts.items():
        at_most = {bound: sum(number for one, number in numbers.items() if one <= bound) for bound in bounds}
        found[name] = Histogram(at_most, fields.get(f"{what}_us:{name}", 0) / _MICROSECONDS)
    return found


def of_calls(calls: Iterable[Completed]) -> Counter[str]:
    """Return what completed calls add to the totals."""
    fields: Counter[str] = Counter()
    for call in calls:
        observe(fields, "call", call.milliseconds / 1000, call.endpoint)
        observe(fields, "wait", call.waited_ms / 1000, call.endpoint)
        observe(fields, "answer", call.age_ms / 1000, call.type)
    return fields


def of_run(record: Mapping[str, Any], calls: Iterable[Completed]) -> Counter[str]:
    """Return what closing a run adds to the totals, besides its counts."""
    fields = of_calls(calls)
    for name, entry in record["by_type"].items():
        fields[f"leftover:{name}"] += entry["leftover"]
    fields[f"runs:{record['state']}"] += 1
    observe(fields, "run", record["duration_seconds"])
    error = forecast_error(record)
    if error is not None:
        observe(fields, "forecast", abs(error))
    return fields


def forecast_error(record: Mapping[str, Any]) -> float | None:
    """Return how much later than planned a run's last answer came, seconds; None if there is nothing to compare.

    Both count from the first call. A run that was cancelled or failed did not reach its end.
    """
    plan = record["plan"]
    if record["state"] not in _FORESEEN or not plan.get("forecast_seconds") or "actual_seconds" not in plan:
        return None
    return float(plan["actual_seconds"]) - float(plan["forecast_seconds"])


def actual_seconds(calls: Sequence[Completed], released_us: int | None = None) -> float | None:
    """Return the seconds from the first call to the last answer that completed an event; None if unknown.

    The first call is the first that was completed, or one at `released_us` (microseconds of Redis time), when the run's
    first event was released, if that was more than `TRAVEL_SECONDS` before: its first calls failed then.
    """
    timed = [call for call in calls if call.at_us]
    if not timed:
        return None
    began_us = min(call.at_us - call.milliseconds * 1000 for call in timed)
    if released_us is not None and began_us - released_us > TRAVEL_SECONDS * _MICROSECONDS:
        began_us = released_us
    return round((max(call.at_us for call in timed) - began_us) / _MICROSECONDS, 3)
