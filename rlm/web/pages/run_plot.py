"""The picture of a run: plan and actual course on one time axis, and what happened. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from markupsafe import Markup

from rlm.admin import words
from rlm.admin.words import against_plan
from rlm.core.documents import EndpointChange, Record, RunCourse, RunStatus
from rlm.core.text import counted, span
from rlm.web.pages import plots

#: The class of the line for each kind of happening; of any other kind it is `event`.
_KINDS: Final = {"end": "deadline", "now": "forecast", "pause": "halt", "limit": "halt"}


class RunPlot(NamedTuple):
    """The `curve`, None if there is nothing to draw; `happened`, numbered in the curve; calls no longer in the log."""

    curve: Markup | None
    legend: Markup
    happened: list[str]
    missing: int


def plot(run: RunStatus | Record, course: RunCourse, height: int = 210) -> RunPlot:
    """Return the picture of a run from its record or status, and its course (`rlm.admin.runs.course`)."""
    sent = sorted(at for calls in course.calls.values() for at in calls)
    window, until = run.window_seconds, _until(run)
    began = _first_call(run, sent)
    planned, forecast = _planned(run, began), _forecast(run, began, len(sent))
    happened = _happened(run, course, began)
    actual = [(0.0, 0.0), *((at, float(number)) for number, at in enumerate(sent, start=1)), (until, float(len(sent)))]
    lines = [
        plots.Line(actual, "measured", filled=True),
        plots.Line(planned, "planned"),
        plots.Line(forecast, "forecast"),
    ]
    most = max(1.0, *(number for line in lines for _, number in line.points))
    label = f"{counted(len(sent), 'call')} sent in {span(until)} of {span(window)}. "
    label += against_plan(run).get("planned", "")
    curve = plots.curve(label, (window, 1.12 * most), lines, _marks(happened, window), height)
    legend = plots.legend(
        measured="calls sent", planned="planned" if planned else "", forecast="expected now" if forecast else ""
    )
    drawn = bool(sent or planned)
    return RunPlot(
        curve if drawn else None,
        legend if drawn else Markup(""),
        [what for _, _, what in happened],
        sum(course.missing.values()),
    )


def _until(run: RunStatus | Record) -> float:
    """Return up to when the run is known, in seconds from its start."""
    until = datetime.fromisoformat(run.finished_at if isinstance(run, Record) else run.as_of)
    return (until - datetime.fromisoformat(run.started_at)).total_seconds()


def _first_call(run: RunStatus | Record, sent: Sequence[float]) -> float | None:
    """Return when the first call was due, in seconds from the start; None if there was none."""
    if isinstance(run, RunStatus) and run.called_seconds is not None:
        return max(0.0, _until(run) - run.called_seconds)
    return sent[0] if sent else None


def _planned(run: RunStatus | Record, began: float | None) -> list[plots.Point]:
    """Return the planned answers over time from the first call on; nothing without a plan."""
    course = run.plan.course if run.plan else ()
    if began is None or not course:
        return []
    points = ((began + at, float(number)) for at, number in course)
    return [(began, 0.0), *points, (run.window_seconds, float(course[-1][1]))]


def _forecast(run: RunStatus | Record, began: float | None, sent: int) -> list[plots.Point]:
    """Return the expected course of an open run from now on, up to all calls that are expected."""
    if isinstance(run, Record) or run.forecast is None or began is None:
        return []
    now, expected = _until(run), run.forecast
    whole = sent + max(0, words.counts_in_all(run).waiting - expected.expected_leftover)
    course = expected.course or [(expected.forecast_seconds, whole)]
    short = whole - course[-1][1]  # done or in flight, so the forecast does not count it
    ahead = [(began + at, float(max(sent, number + short))) for at, number in course if began + at > now]
    return [(now, float(sent)), *ahead] if ahead else []


def _happened(run: RunStatus | Record, course: RunCourse, began: float | None) -> list[tuple[float, str, str]]:
    """Return what happened, in the order of time: when, its kind, and a text."""
    happened = [(each.at_seconds, each.change.what, _changed(each.change)) for each in course.changes]
    if began is not None:
        happened.append((began, "first", f"first call, {span(began)} after the start"))
    actual = run.plan.actual_seconds if run.plan else None
    if actual is not None and began is not None:
        done = counted(run.counts.completed, "event")
        happened.append((began + actual, "done", f"last of {done} completed, {span(began + actual)} after the start"))
    if isinstance(run, Record):
        happened.append((_until(run), "end", f"closed after {span(run.duration_seconds)}"))
    else:
        happened.append((_until(run), "now", f"now, {span(run.seconds_left)} left"))
    return sorted(happened)


def _changed(change: EndpointChange) -> str:
    """Return what an operator or the configuration file changed of an endpoint or budget."""
    name, why = change.name, f": {change.reason}" if change.reason else ""
    what = f"{name} resumed"
    if change.what == "limit":
        what = f"limit of {name} from {change.before} to {change.after}"
    elif change.what == "pause":
        what = f"{name} paused {change.after if change.after == 'until resumed' else f'for {change.after}'}"
    return f"{what}, by {change.by}{why}"


def _marks(happened: Sequence[tuple[float, str, str]], window: float) -> list[plots.PlotMark]:
    """Return a line for each happening with its number; close neighbours share one, `2, 3`."""
    marks: list[plots.PlotMark] = []
    for number, (at, kind, _) in enumerate(happened, start=1):
        if marks and at - marks[-1].x < window / 25:
            marks[-1] = marks[-1]._replace(words=f"{marks[-1].words}, {number}")
        else:
            marks.append(plots.PlotMark(at, str(number), _KINDS.get(kind, "event")))
    return marks
