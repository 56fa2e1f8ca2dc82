"""What was done, ever, over all processes and hosts: samples of counters and histograms, from the totals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from rlm.core.run import MOVES, State
from rlm.core.tally import BOUNDS, Histogram, counted_in, histograms

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rlm.settings import Settings

#: How an event may end or begin in a run, and the name of that in a tally.
OUTCOMES: Final = {
    "taken": "taken",
    "carried_over": "carried",
    "completed": "completed",
    "failed": "failed",
    "leftover": "leftover",
}
#: How a call may be answered, and the name of that in a tally.
ANSWERS: Final = {"completed": "delivered", "throttled": "throttled", "error": "errors"}


class Sample(NamedTuple):
    """One line of a metric: its name, its labels, what it adds to the metric's name (`_bucket`), the number."""

    name: str
    labels: Mapping[str, str]
    value: float
    suffix: str = ""


def counters(settings: Settings, totals: Mapping[str, int]) -> Iterator[Sample]:
    """Yield the samples of what only grows; each configured type and endpoint has its own from the first on."""
    types = _names([one.name for one in settings.event_types], totals, OUTCOMES.values())
    endpoints = _names(settings.endpoints, totals, ANSWERS.values())
    for name in types:
        for outcome, field in OUTCOMES.items():
            yield Sample("rlm_events_total", {"type": name, "outcome": outcome}, totals.get(f"{field}:{name}", 0))
        yield Sample("rlm_claims_unsent_total", {"type": name}, totals.get(f"unsent:{name}", 0))
    yield Sample("rlm_duplicate_events_total", {}, totals.get("duplicates", 0))
    yield Sample("rlm_invalid_items_total", {}, totals.get("invalid", 0))
    for name in endpoints:
        for answer, field in ANSWERS.items():
            yield Sample("rlm_calls_total", {"endpoint": name, "answer": answer}, totals.get(f"{field}:{name}", 0))
    for name, what, number in counted_in(totals):
        yield Sample("rlm_call_troubles_total", {"endpoint": name, "what": what}, number)
    for state in sorted(MOVES[State.FINISHING]):
        yield Sample("rlm_runs_total", {"state": state}, totals.get(f"runs:{state}", 0))
    yield from _histograms(types, endpoints, totals)


def _histograms(types: Iterable[str], endpoints: Iterable[str], totals: Mapping[str, int]) -> Iterator[Sample]:
    for metric, what in (("rlm_call_duration_seconds", "call"), ("rlm_slot_wait_seconds", "wait")):
        found = histograms(totals, what)
        for name in endpoints:
            yield from _histogram(metric, {"endpoint": name}, found.get(name) or _empty(what))
    answers = histograms(totals, "answer")
    for name in types:
        yield from _histogram("rlm_event_answer_seconds", {"type": name}, answers.get(name) or _empty("answer"))
    for metric, what in (("rlm_run_duration_seconds", "run"), ("rlm_forecast_error_seconds", "forecast")):
        yield from _histogram(metric, {}, histograms(totals, what).get("") or _empty(what))


def _names(configured: Iterable[str], totals: Mapping[str, int], fields: Iterable[str]) -> list[str]:
    """Return the configured names, and after them those that were configured once and have a count."""
    known, starts = list(configured), {f"{field}:" for field in fields}
    others = {name.partition(":")[2] for name, number in totals.items() if number and _start(name) in starts}
    return [*known, *sorted(others - set(known))]


def _start(field: str) -> str:
    what, colon, _ = field.partition(":")
    return what + colon


def _empty(what: str) -> Histogram:
    return Histogram(dict.fromkeys((*BOUNDS[what], math.inf), 0), 0.0)


def _histogram(metric: str, labels: Mapping[str, str], found: Histogram) -> Iterator[Sample]:
    for bound, number in found.at_most.items():
        yield Sample(metric, {**labels, "le": "+Inf" if bound == math.inf else f"{bound:g}"}, number, "_bucket")
    yield Sample(metric, labels, found.number, "_count")
    yield Sample(metric, labels, found.seconds, "_sum")
