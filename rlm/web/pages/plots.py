"""The picture of a run as numbers and words: plan and actual course on one time axis, and what happened.

parts.html draws it. Classes of lines: `measured`, `planned` and `forecast`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rlm.admin import words
from rlm.admin.report import RunCourse
from rlm.admin.text import span
from rlm.core.clock import timestamp
from rlm.core.documents import Record, RunStatus
from rlm.core.text import counted
from rlm.ledger.rules import Change

_Points = Sequence[tuple[float, float]]


class Plot(NamedTuple):
    """Paths over the seconds of a window up to the number `top`, by class; none if there is nothing to draw.

    `marks` have the moment, the class and the numbers of what `happened`; close neighbours share one, `2, 3`. `missing`
    calls are no longer in the log.
    """

    label: str
    window: float
    top: float
    paths: dict[str, str]
    marks: list[tuple[float, str, str]]
    happened: list[str]
    missing: int


def run_plot(run: RunStatus | Record, course: RunCourse) -> Plot:
    """Return the picture of a run."""
    sent = course.calls
    until = timestamp(run.finished_at if isinstance(run, Record) else run.as_of) - timestamp(run.started_at)
    began = sent[0] if sent else None  # when the first call was due, if any was
    if isinstance(run, RunStatus) and run.called_seconds is not None:
        began = max(0.0, until - run.called_seconds)
    planned = _planned(run, began)
    lines: dict[str, _Points] = {}
    if sent or planned:
        measured = [(0.0, 0.0), *((at, number) for number, at in enumerate(sent, start=1)), (until, len(sent))]
        lines = {"measured": measured, "planned": planned, "forecast": _forecast(run, began, until, len(sent))}
    happened = sorted(_happened(run, course, began, until), key=lambda each: each[0])
    marks: list[tuple[float, str, str]] = []
    for number, (at, kind, _) in enumerate(happened, start=1):
        if marks and at - marks[-1][0] < run.window_seconds / 25:
            marks[-1] = *marks[-1][:2], f"{marks[-1][2]}, {number}"
        else:
            marks.append((min(at, run.window_seconds), kind, str(number)))
    label = f"{counted(len(sent), 'call')} sent in {span(until)} of {span(run.window_seconds)}. "
    return Plot(
        label + words.against_plan(run).get("planned", ""),
        run.window_seconds,
        max((number for points in lines.values() for _, number in points), default=0),
        {kind: _path(points) for kind, points in lines.items() if points},
        marks,
        [what for *_, what in happened],
        course.missing,
    )


def _planned(run: RunStatus | Record, began: float | None) -> _Points:
    """Return the planned answers over time from the first call on; nothing without a plan."""
    course = run.plan.course if run.plan else ()
    if began is None or not course:
        return []
    return [(began, 0.0), *((began + at, number) for at, number in course), (run.window_seconds, course[-1][1])]


def _forecast(run: RunStatus | Record, began: float | None, now: float, sent: int) -> _Points:
    """Return the expected course of an open run from now on, up to all calls that are expected."""
    if isinstance(run, Record) or run.forecast is None or began is None:
        return []
    # What is done or in flight, or was begun since the forecast, its course does not count.
    to_come, course = words.counts_in_all(run).waiting, run.forecast.course
    short = sent + min(to_come, run.forecast.fitting) - run.forecast.fitting
    ahead = [(began + at, max(sent, number + short)) for at, number in course if began + at > now]
    return [(now, sent), *ahead] if ahead else []


def _happened(
    run: RunStatus | Record, course: RunCourse, began: float | None, until: float
) -> Iterator[tuple[float, str, str]]:
    """Yield what happened: when, in seconds from the start, the class of its mark, and in words."""
    for at, change in course.changes:
        yield at, "event" if change.what == "resume" else "halt", _changed(change)
    if began is not None:
        yield began, "event", f"first call, {span(began)} after the start"
        if run.plan and run.plan.actual_seconds is not None:
            last, done = began + run.plan.actual_seconds, counted(run.counts.completed, "event")
            yield last, "event", f"last of {done} completed, {span(last)} after the start"
    if isinstance(run, Record):
        yield until, "deadline", f"closed after {span(run.duration_seconds)}"
    else:
        yield until, "forecast", f"now, {span(run.seconds_left)} left"


def _changed(change: Change) -> str:
    """Return what an operator or the configuration file changed of an endpoint or budget."""
    name, after = change.name, change.after
    what = f"{name} resumed"
    if change.what == "limit":
        what = f"limit of {name} from {change.before} to {after}"
    elif change.what == "pause":
        what = f"{name} paused {after if after == 'until resumed' else f'for {after}'}"
    return f"{what}, by {change.by}"


def _path(points: _Points) -> str:
    """Return the path of a line that rises in steps."""
    (x, y), *more = points[:: -max(1, -(-len(points) // 300))][::-1]  # enough for its width, and the last one
    return f"M{x:.2f} {y:g}" + "".join(f"H{x:.2f}V{y:g}" for x, y in more)
