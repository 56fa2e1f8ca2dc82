"""The comparison in words and numbers: a table for each load, and where RLM is not ahead."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from benchmarks.harness.contender import Result

#: The computed rows, and the one that is compared with them.
BOUND, SCHEDULE, RLM = "bound", "schedule", "rlm"

_HEADER = """\
| contender | makespan, s | over the bound | over the schedule | first call, s | total, s | refused calls \
| undone in the window | forecast, s | its error | spread |
|---|---|---|---|---|---|---|---|---|---|---|"""


@dataclass(frozen=True, slots=True)
class Row:
    """All runs of one contender at one load."""

    contender: str
    events: int
    runs: Sequence[Result]

    @property
    def makespan(self) -> float:
        """The median in seconds."""
        return statistics.median(one.figures.makespan for one in self.runs)

    @property
    def first_call(self) -> float:
        """The median time from the start to the first call, seconds."""
        return statistics.median(one.figures.first_call for one in self.runs)

    @property
    def total(self) -> float:
        """The median time from the start to the last good answer, seconds."""
        return statistics.median(one.figures.total for one in self.runs)

    @property
    def spread(self) -> float:
        """The difference between the longest and the shortest run, as a part of the median."""
        makespans = [one.figures.makespan for one in self.runs]
        return (max(makespans) - min(makespans)) / self.makespan

    @property
    def refused(self) -> list[int]:
        """Calls answered 429 by run, fewest first."""
        return sorted(one.figures.refused for one in self.runs)

    @property
    def late(self) -> list[int]:
        """Events without a good answer by the end of the window, by run, fewest first."""
        return sorted(self.events - one.figures.in_window for one in self.runs)

    @property
    def forecast(self) -> float | None:
        """The median of the predicted ends; None for a contender that predicts none."""
        told = [one.forecast for one in self.runs if one.forecast is not None]
        return statistics.median(told) if told else None

    @property
    def error(self) -> float | None:
        """The largest error of a forecast, as a part of the outcome."""
        errors = [
            abs(one.forecast - one.figures.makespan) / one.figures.makespan
            for one in self.runs
            if one.forecast is not None
        ]
        return max(errors, default=None)


def table(rows: Mapping[str, Row]) -> str:
    """Return the rows of one load, by name, as a Markdown table. Ratios without their reference row are omitted."""
    return "\n".join([_HEADER, *(_line(row, rows) for row in rows.values())])


def _line(row: Row, rows: Mapping[str, Row]) -> str:
    computed = row.contender in {BOUND, SCHEDULE}
    cells = [
        f"`{row.contender}`",
        f"{row.makespan:.2f}",
        *(f"{row.makespan / rows[one].makespan:.3f}" if one in rows else "" for one in (BOUND, SCHEDULE)),
        *([""] * 7 if computed else _measured(row)),
    ]
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def _measured(row: Row) -> Iterator[str]:
    yield f"{row.first_call:.2f}"
    yield f"{row.total:.2f}"
    yield _range(row.refused)
    yield _range(row.late)
    yield "none" if row.forecast is None else f"{row.forecast:.2f}"
    yield "" if row.error is None else f"{row.error:.1%}"
    yield f"{row.spread:.1%}" if len(row.runs) > 1 else ""


def _range(numbers: Sequence[int]) -> str:
    least, most = numbers[0], numbers[-1]
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def where_not_ahead(loads: Mapping[str, Mapping[str, Row]]) -> list[str]:
    """Name each rival that is ahead of RLM in something at some load; `loads` has the rows by contender, by load."""
    return [
        f"{load}: {found}"
        for load, rows in loads.items()
        if RLM in rows
        for row in rows.values()
        if row.contender not in {BOUND, SCHEDULE, RLM}
        for found in _ahead(row, rows[RLM])
    ]


def _ahead(rival: Row, rlm: Row) -> Iterator[str]:
    price = f", with {_range(rival.refused)} calls refused" if rival.refused[-1] else ""
    if rival.makespan < rlm.makespan:
        yield f"`{rival.contender}` has a makespan of {rival.makespan:.2f} s, RLM of {rlm.makespan:.2f} s{price}"
    if rival.total < rlm.total:
        yield f"`{rival.contender}` is done {rival.total:.2f} s after the start, RLM {rlm.total:.2f} s{price}"
    if rival.refused[-1] < rlm.refused[-1]:
        yield f"`{rival.contender}` has {_range(rival.refused)} calls refused, RLM {_range(rlm.refused)}"
    if rival.late[-1] < rlm.late[-1]:
        yield f"`{rival.contender}` leaves {_range(rival.late)} events undone in the window, RLM {_range(rlm.late)}"


def page_part(
    loads: Mapping[str, Mapping[str, Row]], how: str, not_run: Mapping[str, str], plot: str | None = None
) -> str:
    """Return the generated part of the page.

    Args:
        loads: the rows by contender, by load.
        how: on which machine and how often the runs were made, in sentences.
        not_run: the contenders that could not run, and why.
        plot: the file of the plot, beside the page.
    """
    return "\n\n".join(_parts(loads, how, not_run, plot))


def _parts(
    loads: Mapping[str, Mapping[str, Row]], how: str, not_run: Mapping[str, str], plot: str | None
) -> Iterator[str]:
    yield how
    if not_run:
        yield "Not run, or not to the end:\n\n" + _list(f"`{name}`: {why}" for name, why in not_run.items())
    if plot:
        yield f"![Makespan over the bound, by contender and load]({plot})"
    for load, rows in loads.items():
        counts = f"{max(row.events for row in rows.values()):,} events"
        yield f"#### {load}: {counts}\n\n{table(rows)}"
    if any(RLM in rows and rows.keys() - {BOUND, SCHEDULE, RLM} for rows in loads.values()):
        behind = where_not_ahead(loads)
        yield "Where RLM is not ahead:" + (f"\n\n{_list(behind)}" if behind else " nowhere in these runs.")


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def put_between(page: str, name: str, text: str) -> str:
    """Return `page` with `text` between the markers `<!-- NAME -->` and `<!-- end of NAME -->`.

    Raises:
        ValueError: the page has no such markers.
    """
    before, begin, rest = page.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->")
    if not begin or not end:
        raise ValueError(f"the page has no markers <!-- {name} --> and <!-- end of {name} -->")
    return f"{before}{begin}\n{text}\n\n{end}{after}"
