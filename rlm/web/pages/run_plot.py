"""The picture of a run: plan and actual course on one time axis, and what happened. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from markupsafe import Markup

from rlm.admin import words
from rlm.admin.verdict import against_plan
from rlm.core.documents import EndpointChange, Record, RunCourse, RunForecast, RunPlan, RunStatus
from rlm.core.text import counted, span
from rlm.web.pages import plots

#: The class of the line for each kind of happening; of any other kind it is `event`.
_KINDS: Final = {"end": "deadline", "now": "forecast", "pause": "halt", "limit": "halt"}
#: Marks closer than this part of the window share one line, `2, 3`.
_APART: Final = 0.04
_HEADROOM: Final = 1.12
_HEIGHT: Final = 210


class RunPlot(NamedTuple):
    """The `curve`, None if there is nothing to draw; `happened`, numbered in the curve; calls no longer in the log."""

    curve: Markup | None
    is_planned: bool
    is_forecast: bool
    happened: list[str]
    missing: int


def plot(found: RunStatus | Record, course: RunCourse, height: int = _HEIGHT) -> RunPlot:
    """Return the picture of a run from its record or status, and its course (`rlm.admin.runs.course`)."""
    sent = sorted(at for calls in course.calls.values() for at in calls)
    window, ended = found.window_seconds, _ended(found)
    began = _first_call(found, sent)
    planned, forecast = _planned(found.plan, began, window), _forecast(found, began, len(sent))
    happened = _happened(found, course, began)
    actual = [(0.0, 0.0), *((at, float(number)) for number, at in enumerate(sent, start=1)), (ended, float(len(sent)))]
    lines = [
        plots.Line(actual, "measured", filled=True),
        plots.Line(planned, "planned"),
        plots.Line(forecast, "forecast"),
    ]
    most = max([1.0, len(sent), *(number for _, number in planned + forecast)])
    axes = plots.Axes(window, most * _HEADROOM, plots.time_ticks(window), [(most, f"{most:,.0f}")])
    label = f"{counted(len(sent), 'call')} sent in {span(ended)} of {span(window)}. "
    label += against_plan(found).get("planned", "")
    return RunPlot(
        plots.curve(label, axes, lines, _marks(happened, window), height) if sent or planned else None,
        bool(planned),
        bool(forecast),
        [told for _, _, told in happened],
        sum(course.missing.values()),
    )


def _ended(found: RunStatus | Record) -> float:
    """Return up to when the run is known, in seconds from its start."""
    ended = datetime.fromisoformat(found.finished_at if isinstance(found, Record) else found.as_of)
    return (ended - datetime.fromisoformat(found.started_at)).total_seconds()


def _first_call(found: RunStatus | Record, sent: Sequence[float]) -> float | None:
    """Return when the first call was due, in seconds from the start; None if there was none."""
    called = found.called_seconds if isinstance(found, RunStatus) else None
    if called is not None:
        return max(0.0, _ended(found) - called)
    return sent[0] if sent else None


def _planned(plan: RunPlan | None, began: float | None, window: float) -> list[tuple[float, float]]:
    """Return the planned answers over time from the first call on; nothing without a plan or for an old one."""
    course = plan.course if plan else ()
    if began is None or not course:
        return []
    return [(began, 0.0), *((began + at, float(number)) for at, number in course), (window, float(course[-1][1]))]


def _forecast(found: RunStatus | Record, began: float | None, sent: int) -> list[tuple[float, float]]:
    """Return the expected course of an open run from now on, up to all calls that are expected."""
    expected = found.forecast if isinstance(found, RunStatus) else None
    if expected is None or began is None or isinstance(found, Record):
        return []
    whole = sent + max(0, words.counts_in_all(found).waiting - expected.expected_leftover)
    return _expected(expected, began, (_ended(found), float(sent)), whole)


def _expected(
    expected: RunForecast, began: float, last: tuple[float, float], whole: float
) -> list[tuple[float, float]]:
    """Return the line of a forecast from the `last` known point on, up to the `whole`; nothing if it is over."""
    course = expected.course or [(expected.forecast_seconds, whole)]
    short = whole - course[-1][1]  # done or in flight, so the forecast does not count it
    ahead = [(began + at, float(max(last[1], number + short))) for at, number in course if began + at > last[0]]
    return [last, *ahead] if ahead else []


def _happened(found: RunStatus | Record, course: RunCourse, began: float | None) -> list[tuple[float, str, str]]:
    """Return what happened, in the order of time: when, its kind, and a text."""
    happened = [(each.at_seconds, each.change.what, _changed(each.change)) for each in course.changes]
    # Starts in the same second are combined; those before the run are left out.
    starts = Counter(at // 1 for at in course.workers if at >= 0)
    happened += [(at, "worker", f"{counted(number, 'worker')} started") for at, number in starts.items()]
    if began is not None:
        happened.append((began, "first", f"first call, {span(began)} after the start"))
    actual = found.plan.actual_seconds if found.plan else None
    if actual is not None and began is not None:
        done = counted(found.counts.completed, "event")
        happened.append((began + actual, "done", f"last of {done} completed, {span(began + actual)} after the start"))
    if isinstance(found, Record):
        happened.append((_ended(found), "end", f"closed after {span(found.duration_seconds)}"))
    else:
        happened.append((_ended(found), "now", f"now, {span(found.seconds_left)} left"))
    return sorted(happened)


def _changed(change: EndpointChange) -> str:
    """Return what an operator or the configuration file changed of an endpoint or budget."""
    name, why = change.name, f": {change.reason}" if change.reason else ""
    match change.what:
        case "limit":
            words = f"limit of {name} from {change.before} to {change.after}"
        case "pause":
            words = f"{name} paused {change.after if change.after == 'until resumed' else f'for {change.after}'}"
        case _:
            words = f"{name} resumed"
    return f"{words}, by {change.by}{why}"


def _marks(happened: Sequence[tuple[float, str, str]], window: float) -> list[plots.PlotMark]:
    """Return a line for each happening with its number; neighbours share one."""
    marks: list[plots.PlotMark] = []
    for number, (at, kind, _) in enumerate(happened, start=1):
        if marks and at - marks[-1].x < _APART * window:
            marks[-1] = marks[-1]._replace(words=f"{marks[-1].words}, {number}")
        else:
            marks.append(plots.PlotMark(at, str(number), _KINDS.get(kind, "event")))
    return marks
