"""What is counted: a run's failed calls by endpoint, and the totals over all runs with their histograms. Pure.

The step that settles an event counts a call without a good answer under one of a few words (`rlm.delivery.outcome`), in
the field `trouble:ENDPOINT WHAT` of the run's tally.

The totals are one hash of integers that only grow. Closing a run adds its counts there, as `what:name`, and

- `leftover:TYPE`, `runs:STATE`,
- histograms: `what<=BOUND:NAME` counts values of at most BOUND seconds and above the bound before; `what_us:NAME` sums
  their microseconds, as integers so that rounding never makes a counter decrease.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import msgspec

from rlm.core.documents import CallTrouble, Record
from rlm.core.endpoint import Endpoint, target_of

if TYPE_CHECKING:
    from rlm.core.expected import CallEntry

#: The most troubles that a sentence names; it gives the number of the others.
MOST_NAMED: Final = 3

#: A completed call whose answer was a web page; it is counted among the troubles, because it may be a login page.
WEB_PAGE: Final = "web page"

#: Refusals that, several in a row, concern the endpoint or the access to it; the contract lists them. Any other 3xx or
#: 4xx concerns only its one event, whatever HTTP says about it.
OF_ENDPOINT: Final = frozenset({401, 403, 404, 405, 410})

#: The histograms and their bounds in seconds. `call`: from request to answer; `answer`: from taking an event to the
#: answer that completed it; `run`: from a run's start to its close.
BOUNDS: Final[Mapping[str, tuple[float, ...]]] = {
    "call": (0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 30),
    "answer": (1, 5, 15, 30, 60, 120, 180, 300, 600, 1800, 3600),
    "run": (1, 5, 15, 30, 60, 90, 120, 150, 180, 300, 600, 1800, 3600),
}

_MICROSECONDS = 1_000_000


def troubles_of(tally: Mapping[str, int], endpoints: Mapping[str, Endpoint]) -> tuple[CallTrouble, ...]:
    """Return the entries of a record for failed calls, the hundred most frequent first.

    `address` is null for an endpoint that is no longer configured.
    """
    entries = []
    for field, number in tally.items():
        if field.startswith("trouble:"):
            name, _, what = field.removeprefix("trouble:").partition(" ")
            address = address_of(endpoints[name].url) if name in endpoints else None
            entries.append(CallTrouble(endpoint=name, address=address, what=what, calls=number))
    return tuple(sorted(entries, key=lambda entry: (-entry.calls, entry.endpoint, entry.what))[:100])


def address_of(url: str) -> str:
    """Return host and port of a URL; its other parts may hold a secret."""
    host, port, _ = target_of(url)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def in_words(troubles: Sequence[CallTrouble]) -> str:
    """Return the most frequent failures in words: `3 x connection refused, a at 10.0.0.7:80`."""
    failed = [each for each in troubles if each.what != WEB_PAGE]
    words = [f"{each.calls:,} x {each.what}, {each.endpoint} at {each.address or 'no address'}" for each in failed]
    more = [f"and {len(words) - MOST_NAMED} more, see `rlm result --json`"] if len(words) > MOST_NAMED else []
    return "; ".join([*words[:MOST_NAMED], *more])


def every_call_failed(record: Record) -> bool:
    """Return whether a run made calls and none of them succeeded."""
    entries = record.by_endpoint.values()
    return any(entry.calls for entry in entries) and not any(entry.completed for entry in entries)


class Histogram(msgspec.Struct, frozen=True):
    """How many values are at most each bound (the last is infinite), and their sum, `seconds`."""

    at_most: Mapping[float, int]
    seconds: float

    @property
    def number(self) -> int:
        """The number of values."""
        return self.at_most[math.inf]


def observe(fields: Counter[str], what: str, seconds: float, name: str = "") -> None:
    """Add a value to the histogram `what` of `name`. A negative time (the clock was set back) counts as 0."""
    seconds = max(0.0, seconds)
    bound = next((each for each in BOUNDS[what] if seconds <= each), math.inf)
    fields[f"{what}<={bound:g}:{name}"] += 1
    fields[f"{what}_us:{name}"] += round(seconds * _MICROSECONDS)


def histograms(fields: Mapping[str, int], what: str) -> dict[str, Histogram]:
    """Return the histograms of `what` by name."""
    by_name = {}
    for name in {field.partition(":")[2] for field in fields if field.startswith(f"{what}<=")}:
        bounds = (*BOUNDS[what], math.inf)
        numbers = accumulate(fields.get(f"{what}<={bound:g}:{name}", 0) for bound in bounds)
        at_most = dict(zip(bounds, numbers, strict=True))
        by_name[name] = Histogram(at_most, fields.get(f"{what}_us:{name}", 0) / _MICROSECONDS)
    return by_name


def of_run(record: Record, calls: Iterable[CallEntry]) -> Counter[str]:
    """Return what closing a run with these completed calls adds to the totals, besides the run's own counts."""
    fields: Counter[str] = Counter()
    for call in calls:
        observe(fields, "call", call.milliseconds / 1000, call.endpoint)
        observe(fields, "answer", call.age_ms / 1000, call.type)
    for name, entry in record.by_type.items():
        fields[f"leftover:{name}"] += entry.leftover
    fields[f"runs:{record.state}"] += 1
    observe(fields, "run", record.duration_seconds)
    return fields
