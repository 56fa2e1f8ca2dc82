"""The pictures of the dashboard as SVG: pure functions of numbers and documents. Colours come from the style sheet.

A picture is as wide as its place: horizontal positions are percentages, so lines and text in it keep their size. Curves
are in an inner picture that is stretched. Classes of parts: `done`, `busy`, `wait`, `fail` and `left` of
events; `measured`, `planned` and `forecast` of lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate
from typing import Final, NamedTuple

from markupsafe import Markup

from rlm.admin import words
from rlm.admin.report import RunCourse
from rlm.admin.words import against_plan
from rlm.core.documents import Record, RunStatus
from rlm.core.text import counted, safe_line, span
from rlm.ledger.rules import Change

_Points = Sequence[tuple[float, float]]
#: Pixels below a curve for the numbers along it, and above it for the names of marks.
_BELOW, _ABOVE = 20, 18
_EMPTY: Final = Markup("")


def bar(label: str, *parts: tuple[float, str], whole: float = 0, height: int = 12) -> Markup:
    """Return a bar of parts, (number, class) each, which fill its width, or their share of the `whole`.

    `label` describes it in words. A part that is not 0 is visible however small it is.
    """
    shown = [(number, kind) for number, kind in parts if number > 0]
    total = max(whole, sum(number for number, _ in shown)) or 1.0
    widths = [max(0.4, 100 * number / total) for number, _ in shown]
    scale = min(1.0, 100 / sum(widths)) if widths else 1.0
    drawn = Markup('<rect class="ground" width="100%" height="{}" rx="2"/>').format(height)
    shape = Markup('<rect class="{}" x="{}%" width="{}%" height="{}"/>')
    for at, width, (_, kind) in zip(accumulate(widths, initial=0.0), widths, shown, strict=False):
        drawn += shape.format(kind, _short(at * scale), _short(width * scale), height)
    return _frame("bar", label, height, drawn)


def legend(**kinds: str) -> Markup:
    """Return the list of kinds of parts or lines, each with a sample of its colour and its word; none without one."""
    line = Markup(
        '<li><svg class="plot sample" aria-hidden="true"><line class="{}" x1="0" x2="22" y1="5" y2="5"/></svg>'
    )
    part = Markup(
        '<li><svg class="plot swatch" aria-hidden="true"><rect class="{}" width="10" height="10" rx="2"/></svg>'
    )
    lines = {"measured", "planned", "forecast"}
    drawn = (
        (line if kind in lines else part).format(kind) + word + Markup("</li>") for kind, word in kinds.items() if word
    )
    return Markup('<ul class="legend">{}</ul>').format(_EMPTY.join(drawn))


class RunPlot(NamedTuple):
    """The `curve`, empty if there is nothing to draw; `happened`, numbered in the curve; calls no longer in the log."""

    curve: Markup
    legend: Markup
    happened: list[str]
    missing: int


def run_plot(run: RunStatus | Record, course: RunCourse, height: int = 210) -> RunPlot:
    """Return the picture of a run: plan and actual course on one time axis, and what happened."""
    sent = course.calls
    ended = datetime.fromisoformat(run.finished_at if isinstance(run, Record) else run.as_of)
    until = (ended - datetime.fromisoformat(run.started_at)).total_seconds()
    began = sent[0] if sent else None  # when the first call was due, if any was
    if isinstance(run, RunStatus) and run.called_seconds is not None:
        began = max(0.0, until - run.called_seconds)
    measured = [
        (0.0, 0.0),
        *((at, float(number)) for number, at in enumerate(sent, start=1)),
        (until, float(len(sent))),
    ]
    planned = _planned(run, began)
    lines = {"measured": measured, "planned": planned, "forecast": _forecast(run, began, until, len(sent))}
    happened, missing = _happened(run, course, began, until), course.missing
    told = [what for _, _, what in happened]
    if not sent and not planned:
        return RunPlot(_EMPTY, _EMPTY, told, missing)
    label = f"{counted(len(sent), 'call')} sent in {span(until)} of {span(run.window_seconds)}. "
    label += against_plan(run).get("planned", "")
    names = {"measured": "calls sent", "planned": "planned", "forecast": "expected now"}
    drawn = legend(**{kind: names[kind] for kind, points in lines.items() if points})
    return RunPlot(_curve(label, run.window_seconds, lines, happened, height), drawn, told, missing)


def _planned(run: RunStatus | Record, began: float | None) -> _Points:
    """Return the planned answers over time from the first call on; nothing without a plan."""
    course = run.plan.course if run.plan else ()
    if began is None or not course:
        return []
    points = ((began + at, float(number)) for at, number in course)
    return [(began, 0.0), *points, (run.window_seconds, float(course[-1][1]))]


def _forecast(run: RunStatus | Record, began: float | None, now: float, sent: int) -> _Points:
    """Return the expected course of an open run from now on, up to all calls that are expected."""
    if isinstance(run, Record) or run.forecast is None or began is None:
        return []
    expected = run.forecast
    whole = sent + max(0, words.counts_in_all(run).waiting - expected.expected_leftover)
    course = expected.course or [(expected.forecast_seconds, whole)]
    short = whole - course[-1][1]  # done or in flight, so the forecast does not count it
    ahead = [(began + at, float(max(sent, number + short))) for at, number in course if began + at > now]
    return [(now, float(sent)), *ahead] if ahead else []


def _happened(
    run: RunStatus | Record, course: RunCourse, began: float | None, until: float
) -> list[tuple[float, str, str]]:
    """Return what happened, in the order of time: when, the class of its line, and a text."""
    happened = [(at, "event" if change.what == "resume" else "halt", _changed(change)) for at, change in course.changes]
    if began is not None:
        happened.append((began, "event", f"first call, {span(began)} after the start"))
    actual = run.plan.actual_seconds if run.plan else None
    if actual is not None and began is not None:
        done = counted(run.counts.completed, "event")
        happened.append((began + actual, "event", f"last of {done} completed, {span(began + actual)} after the start"))
    if isinstance(run, Record):
        happened.append((until, "deadline", f"closed after {span(run.duration_seconds)}"))
    else:
        happened.append((until, "forecast", f"now, {span(run.seconds_left)} left"))
    return sorted(happened, key=lambda each: each[0])


def _changed(change: Change) -> str:
    """Return what an operator or the configuration file changed of an endpoint or budget."""
    name = change.name
    what = f"{name} resumed"
    if change.what == "limit":
        what = f"limit of {name} from {change.before} to {change.after}"
    elif change.what == "pause":
        what = f"{name} paused {change.after if change.after == 'until resumed' else f'for {change.after}'}"
    return f"{what}, by {change.by}"


def _curve(
    label: str, window: float, lines: dict[str, _Points], happened: Sequence[tuple[float, str, str]], height: int
) -> Markup:
    """Return lines over the seconds of a window, later ones on top; the highest point has its number.

    Each happening has a vertical line with its number; close neighbours share one, `2, 3`.
    """
    room = height - _ABOVE - _BELOW
    top = max(number for points in lines.values() for _, number in points)
    whole = 1.12 * max(1.0, top)
    y = _ABOVE + room * (1 - top / whole)  # its number is below the line, because those of happenings are above it
    drawn = Markup('<line class="axis" x1="0" x2="100%" y1="{0}" y2="{0}"/><text x="0" y="{1}">{2:,.0f}</text>').format(
        _short(y), _short(y + 13), top
    )
    tick = Markup('<text x="{}%" y="{}" text-anchor="{}">{}</text>')
    for seconds in _ticks(window):
        anchor = "start" if seconds <= 0 else "end" if seconds >= window else "middle"
        drawn += tick.format(_short(100 * seconds / window), height - 5, anchor, span(seconds) if seconds else "0")
    inner = Markup(
        '<svg y="{0}" width="100%" height="{1}" viewBox="0 0 1000 1000" preserveAspectRatio="none" overflow="visible">'
        "{2}</svg>"
    )
    drawn += inner.format(
        _ABOVE, room, _EMPTY.join(_path(kind, points, window, whole) for kind, points in lines.items())
    )
    marks: list[tuple[float, str, str]] = []
    for number, (at, kind, _) in enumerate(happened, start=1):
        if marks and at - marks[-1][0] < window / 25:
            marks[-1] = *marks[-1][:2], f"{marks[-1][2]}, {number}"
        else:
            marks.append((at, kind, str(number)))
    mark = Markup(
        '<line class="mark {0}" x1="{1}%" x2="{1}%" y1="{2}" y2="{3}"/>'
        '<text x="{1}%" y="11" text-anchor="{4}" class="{0}">{5}</text>'
    )
    for at, kind, numbers in marks:
        part = min(1.0, max(0.0, at / window))
        anchor = "end" if part > 0.65 else "start"  # noqa: PLR2004  # else it was cut
        drawn += mark.format(kind, _short(100 * part), _ABOVE - 3, _ABOVE + room, anchor, numbers)
    return _frame("curve", label, height, drawn)


def _ticks(end: float) -> range:
    """Return at most seven round times from 0 to `end` seconds."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800)
    return range(0, int(end) + 1, next((seconds for seconds in steps if end <= 6 * seconds), 86400))


def _path(kind: str, points: _Points, x_end: float, y_end: float) -> Markup:
    shown = points[:: -max(1, -(-len(points) // 300))][::-1]  # enough for its width, and the last one
    if not shown:
        return _EMPTY
    (x, y), *more = [(1000 * x / x_end, 1000 * (1 - y / y_end)) for x, y in shown]
    drawn = f"M{_short(x)} {_short(y)}" + "".join(f"H{_short(x)}V{_short(y)}" for x, y in more)
    shape = Markup('<path class="{}" d="{}"/>')
    area = shape.format("measured area", f"{drawn}V1000H{_short(x)}Z") if kind == "measured" else _EMPTY
    return area + shape.format(kind, drawn)


def _frame(kind: str, label: str, height: int, drawn: Markup) -> Markup:
    """Return a picture, whose content is its label for a screen reader."""
    shape = Markup('<svg class="plot {}" height="{}" role="img" aria-label="{}">{}</svg>')
    return shape.format(kind, height, safe_line(label), drawn)


def _short(number: float) -> str:
    """Return a number with at most one decimal, because there are many."""
    return f"{number:.1f}".removesuffix(".0")
