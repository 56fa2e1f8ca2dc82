"""The picture of a run: plan against actual on one time axis, its calls by endpoint, and what happened meanwhile. Pure.

Across, 0 to 1000 is the window of the run; upwards, 100 to 0. A template draws it, whatever its width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rlm.admin import words
from rlm.core.text import counted, span

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: The picture is so wide and high, and time is cut into so many parts.
WIDTH: Final = 1000
HEIGHT: Final = 100
PARTS: Final = 100
#: Marks nearer to each other than this have one sign.
_APART: Final = 40
#: The most lines across the time axis, and the lengths of time between two, seconds.
_MOST_TICKS: Final = 7
_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400)

Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Mark:
    """What happened at a moment: `x` across, a word for the class, and what it was."""

    x: float
    kind: str
    told: str


@dataclass(frozen=True, slots=True)
class Row:
    """The calls of one endpoint: a bar for each part of the time that has any, `(x, width, height)`."""

    name: str
    calls: int
    missing: int
    most: int
    bars: list[tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class RunPlot:
    """What the template draws; lines are `x,y x,y`. `told` says it in words, for those who do not see it.

    `signs` are the numbers of the marks, those of neighbours as one: `2, 3`.
    """

    ticks: list[tuple[float, str]]
    levels: list[tuple[float, str]]
    sent: str
    planned: str
    forecast: str
    marks: list[Mark]
    signs: list[tuple[float, str]]
    rows: list[Row]
    told: str


@dataclass(frozen=True, slots=True)
class _Scale:
    """From seconds of the run and a number of events to the picture."""

    seconds: float
    most: float

    def x(self, at: float) -> float:
        return round(WIDTH * min(1.0, max(0.0, at / self.seconds)), 1)

    def y(self, number: float) -> float:
        return round(HEIGHT * (1 - number / self.most), 1)

    def line(self, points: Iterable[tuple[float, float]]) -> str:
        return " ".join(f"{self.x(at):g},{self.y(number):g}" for at, number in points)


def plot(found: Mapping[str, Any], course: Mapping[str, Any]) -> RunPlot:
    """Return the picture of a run from its record or status, and its course (`rlm.admin.runs.course`)."""
    sent = sorted(at for calls in course["calls"].values() for at in calls)
    began = _first_call(found, sent)
    total = words.counts_in_all(found).total
    planned, forecast = _planned(found, total, began), _forecast(found, total, began, len(sent))
    most = max([len(sent), 1, *(number for _, number in planned + forecast)])
    scale = _Scale(max(found["window_seconds"], 0.001), nice(most))
    marks = _marks(found, course, scale, began)
    return RunPlot(
        ticks=ticks(found["window_seconds"]),
        levels=[(scale.y(number), f"{number:,.0f}") for number in (0, scale.most / 2, scale.most)],
        sent=scale.line(_steps(sent, _ended(found))) if sent else "",
        planned=scale.line(planned),
        forecast=scale.line(forecast),
        marks=marks,
        signs=_signs(marks),
        rows=[_row(name, calls, course["missing"].get(name, 0), scale) for name, calls in course["calls"].items()],
        told=_told(found, total, len(sent)),
    )


def nice(number: float) -> float:
    """Return a round number that is no less: 2, 4, 6, 8, 10 or 20 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(max(number, 1)))
    return next(step * power for step in (2, 4, 6, 8, 10, 20) if step * power >= number)


def ticks(seconds: float) -> list[tuple[float, str]]:
    """Return where time is marked, across, and the time there, minutes and seconds from the start."""
    step = next((one for one in _STEPS if seconds / one <= _MOST_TICKS), math.ceil(seconds / _MOST_TICKS))
    moments = [step * number for number in range(int(seconds / step) + 1)]
    return [(round(WIDTH * at / seconds, 1), f"{at // 60}:{at % 60:02d}") for at in moments]


def _seconds_between(a: str, b: str) -> float:
    return (datetime.fromisoformat(b) - datetime.fromisoformat(a)).total_seconds()


def _ended(found: Mapping[str, Any]) -> float:
    """Return until when the run is known, seconds from its start."""
    return _seconds_between(found["started_at"], found.get("finished_at") or found["as_of"])


def _first_call(found: Mapping[str, Any], sent: Sequence[float]) -> float | None:
    """Return when the first call was due, seconds from the start; None if there was none."""
    called: float | None = found.get("called_seconds")
    if called is not None:
        return max(0.0, _ended(found) - called)
    return sent[0] if sent else None


def _planned(found: Mapping[str, Any], total: int, began: float | None) -> Points:
    """Return the plan as a line: from the first call to the last answer, and on to the end of the window."""
    plan = found["plan"]
    if began is None or not plan["forecast_seconds"]:
        return []
    done = total - plan["expected_leftover"]
    return [(began, 0), (began + plan["forecast_seconds"], done), (found["window_seconds"], done)]


def _forecast(found: Mapping[str, Any], total: int, began: float | None, sent: int) -> Points:
    """Return what an open run is expected to do from now on, as a line."""
    expected = found.get("forecast")
    if "finished_at" in found or not expected or began is None:
        return []
    now, until = _ended(found), began + expected["forecast_seconds"]
    return [(now, sent), (until, total - expected["expected_leftover"])] if until > now else []


def _steps(sent: Sequence[float], ended: float) -> Points:
    """Return how many calls were sent by when: as many points as there are parts of the time, no more."""
    every = max(1, math.ceil(len(sent) / PARTS))
    kept = [(at, number) for number, at in enumerate(sent, start=1) if number % every == 0 or number == len(sent)]
    points, before = [(sent[0], 0)], 0
    for at, number in kept:
        points += [(at, before), (at, number)]
        before = number
    return [*points, (max(ended, sent[-1]), before)]


def _row(name: str, calls: Sequence[float], missing: int, scale: _Scale) -> Row:
    parts = [0] * PARTS
    for at in calls:
        parts[min(PARTS - 1, int(PARTS * at / scale.seconds))] += 1
    most = max(parts)
    width = WIDTH / PARTS
    bars = [(at * width, width, round(HEIGHT * number / most, 1)) for at, number in enumerate(parts) if number]
    return Row(name, len(calls), missing, most, bars)


def _marks(found: Mapping[str, Any], course: Mapping[str, Any], scale: _Scale, began: float | None) -> list[Mark]:
    """Return what happened, in the order of time."""
    marks = [(one["at_seconds"], one["what"], _changed(one)) for one in course["changes"]]
    for at, number in _starts(course["workers"]):
        marks.append((at, "worker", f"{counted(number, 'worker')} started"))
    if began is not None:
        marks.append((began, "first", f"first call, {span(began)} after the start"))
    actual = found["plan"].get("actual_seconds")
    if actual is not None and began is not None:
        done = found["counts"]["completed"]
        marks.append((began + actual, "done", f"last of {counted(done, 'event')} completed"))
    if "finished_at" in found:
        marks.append((_ended(found), "end", f"closed after {span(found['duration_seconds'])}"))
    else:
        marks.append((_ended(found), "now", f"now, {span(found['seconds_left'])} left"))
    return [Mark(scale.x(at), kind, told) for at, kind, told in sorted(marks) if at >= 0]


def _signs(marks: Sequence[Mark]) -> list[tuple[float, str]]:
    found: list[tuple[float, str]] = []
    for number, mark in enumerate(marks, start=1):
        if found and mark.x - found[-1][0] < _APART:
            found[-1] = (found[-1][0], f"{found[-1][1]}, {number}")
        else:
            found.append((mark.x, str(number)))
    return found


def _starts(workers: Sequence[Mapping[str, Any]]) -> Iterable[tuple[float, int]]:
    """Return when workers started, those of the same second together."""
    found: dict[float, int] = {}
    for one in workers:
        at = float(math.floor(one["at_seconds"]))
        found[at] = found.get(at, 0) + 1
    return [(at, number) for at, number in found.items() if at >= 0]


def _changed(one: Mapping[str, Any]) -> str:
    """Return what an operator, or the configuration file, changed of an endpoint or a budget."""
    name, by = one["name"], one["by"]
    match one["what"]:
        case "limit":
            return f"limit of {name} from {one['from']} to {one['to']}, by {by}"
        case "pause":
            return f"{name} paused {one['to']}, by {by}"
        case _:
            return f"{name} resumed, by {by}"


def _told(found: Mapping[str, Any], total: int, sent: int) -> str:
    told = [f"{counted(sent, 'call')} sent in {span(_ended(found))} of {span(found['window_seconds'])}"]
    plan = found["plan"]
    if plan["forecast_seconds"]:
        done = total - plan["expected_leftover"]
        told.append(f"planned were {counted(done, 'event')} done {span(plan['forecast_seconds'])} after the first call")
    return "; ".join(told)
