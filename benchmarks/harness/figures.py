"""The figures by which a contender is judged, all from the server's own account of the calls."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from benchmarks.harness.api import Call
    from benchmarks.harness.work import Work


class Figures(NamedTuple):
    """The result of one run, times in seconds.

    `makespan` is from the first call to the last good answer, `first_call` from the start to the first call.
    `late` are events without a good answer by the end of the window, `refused` calls answered 429, `repeats` admitted
    calls of an event beyond the first, `error` the forecast's as a part of the makespan.
    """

    makespan: float
    first_call: float
    refused: int
    repeats: int
    late: int
    error: float | None


def measure(calls: Sequence[Call], work: Work, started_at: float, forecast: float | None) -> Figures:
    """Judge a run that was started at `started_at`, in seconds since 1970."""
    takes, answered = work.takes(), {}
    for call in calls:
        if call.admitted:
            answered.setdefault(call.event_id, call.at + takes[call.endpoint])
    first = min((call.at for call in calls), default=started_at)
    makespan = max(answered.values(), default=first) - first
    admitted = Counter(call.event_id for call in calls if call.admitted)
    return Figures(
        makespan=makespan,
        first_call=first - started_at,
        refused=sum(not call.admitted for call in calls),
        repeats=sum(admitted.values()) - len(admitted),
        late=work.count - sum(at <= started_at + work.window for at in answered.values()),
        error=abs(forecast - makespan) / makespan if forecast is not None and makespan else None,
    )


def median(runs: Iterable[tuple], name: str) -> float | None:
    """Return the median of a field of all runs, None where they have none."""
    values = [value for run in runs if (value := getattr(run, name)) is not None]
    return statistics.median(values) if values else None


def medians(runs: Sequence[Mapping[str, float]]) -> Iterator[list[str]]:
    """Yield for each figure its name, its median, and its least and most."""
    for name in runs[0]:
        values = [run[name] for run in runs]
        yield [name, f"{statistics.median(values):.4g}", f"{min(values):.4g} to {max(values):.4g}"]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Iterable[int]) -> str:
    """Return the least and the most, or the value where they are equal."""
    least, most = min(values := list(values)), max(values)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
