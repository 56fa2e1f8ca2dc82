"""The pictures of the dashboard as SVG: pure functions of numbers. Colours come from the style sheet, by class.

A picture is as wide as its place: horizontal positions are percentages, so lines and text in it keep their size. Curves
and ticks are in an inner picture that is stretched. Classes of parts: `done`, `busy`, `wait`, `fail` and `left` of
events; `measured`, `planned` and `forecast` of lines.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from markupsafe import Markup

from rlm.core.text import safe_line

#: A number and its class.
Part = tuple[float, str]
Point = tuple[float, float]
#: Width and height of the stretched inner picture, in its units.
_UNITS: Final = 1000
_INNER: Final = Markup(
    '<svg y="{0}" width="100%" height="{1}" viewBox="0 0 {2} {2}" preserveAspectRatio="none" overflow="visible">{3}'
    "</svg>"
)
#: Pixels below a curve for the numbers along it, and above it for the names of marks.
_BELOW, _ABOVE = 20, 18
#: Most points of a line: a picture has no room for more.
_MOST_POINTS: Final = 300
#: The widest column, percent.
_WIDEST: Final = 8.0
#: The minimum width of a part of a bar that is not 0, percent.
_NARROWEST = 0.4
#: To the right of this part of the width, words are written to the left of their mark.
_TURN = 0.65
_MINUTE, _HOUR = 60, 3600


class Line(NamedTuple):
    """A line of a class that rises at its points; `filled`: the area below it has a colour.

    A line with a `name` is a column of the table below the picture.
    """

    points: Sequence[Point]
    kind: str
    filled: bool = False
    name: str = ""


class PlotMark(NamedTuple):
    """A moment, drawn as a vertical line with words above it, or as a dot if `y` is given."""

    x: float
    words: str
    kind: str
    y: float | None = None


class Column(NamedTuple):
    """One of several columns: its words, its parts from the bottom up, and its link."""

    words: str
    parts: Sequence[Part]
    href: str = ""


class Axes(NamedTuple):
    """The ends of a picture's axes, which begin at 0, and the numbers along them; by default round ones."""

    x_end: float
    y_end: float
    x_ticks: Sequence[tuple[float, str]] = ()
    y_ticks: Sequence[tuple[float, str]] = ()


def bar(label: str, *parts: Part, whole: float = 0, height: int = 12) -> Markup:
    """Return a bar of parts, (number, class) each, which fill its width, or their share of the `whole`.

    `label` describes it in words. A part that is not 0 is visible however small it is.
    """
    shown = [(number, kind) for number, kind in parts if number > 0]
    total = max(whole, sum(number for number, _ in shown)) or 1.0
    widths = [max(_NARROWEST, 100 * number / total) for number, _ in shown]
    scale = min(1.0, 100 / sum(widths)) if widths else 1.0
    drawn, at = [Markup('<rect class="ground" width="100%" height="{}" rx="2"/>').format(height)], 0.0
    for width, (_, kind) in zip(widths, shown, strict=True):
        shape = Markup('<rect class="{}" x="{}%" width="{}%" height="{}"/>')
        drawn.append(shape.format(kind, _short(at), _short(width * scale), height))
        at += width * scale
    return _frame("bar", label, height, drawn)


def columns(label: str, bars: Sequence[Column], height: int = 120) -> Markup:
    """Return a column for each of `bars`, all on one scale. The words of a column appear under the mouse."""
    most = max((sum(number for number, _ in one.parts) for one in bars), default=0) or 1
    pitch = 100 / max(1, len(bars))
    width = min(_WIDEST, pitch * 0.76)
    drawn = [Markup('<line class="axis" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(height - 0.5)]
    for place, one in enumerate(bars):
        left, bottom = place * pitch, float(height)
        inside = [Markup("<title>{}</title>").format(safe_line(one.words))]
        clear = Markup('<rect class="clear" x="{}%" width="{}%" height="{}"/>')
        inside.append(clear.format(_short(left), _short(pitch), height))
        for number, kind in one.parts:
            if number > 0:
                tall = max(1.5, (height - 4) * number / most)
                bottom -= tall
                shape = Markup('<rect class="{}" x="{}%" y="{}" width="{}%" height="{}"/>')
                inside.append(
                    shape.format(kind, _short(left + (pitch - width) / 2), _short(bottom), _short(width), _short(tall))
                )
        shape = Markup('<a href="{0}">{1}</a>') if one.href else Markup("<g>{1}</g>")
        drawn.append(shape.format(safe_line(one.href), _join(inside)))
    return _frame("columns", label, height, drawn, role="group" if any(one.href for one in bars) else "img")


def curve(label: str, axes: Axes, lines: Sequence[Line], marks: Iterable[PlotMark] = (), height: int = 260) -> Markup:
    """Return lines over two axes from 0, later lines on top, with marks; `label` describes it in words.

    Below it is a table of the lines that have a name, for who cannot see them.
    """
    room = height - _ABOVE - _BELOW
    x_end, y_end = axes.x_end or 1.0, axes.y_end or 1.0
    drawn = [_y_tick(at / y_end, words, room) for at, words in axes.y_ticks or round_ticks(axes.y_end, 4)]
    drawn += [_x_tick(at / x_end, words, height) for at, words in axes.x_ticks]
    shapes = [_path(line, x_end, y_end) for line in lines]
    drawn.append(_INNER.format(_ABOVE, room, _UNITS, _join(shapes)))
    drawn += [_mark(mark, mark.x / x_end, y_end, room) for mark in marks]
    return _frame("curve", label, height, drawn) + _readings(axes, lines)


def _readings(axes: Axes, lines: Sequence[Line]) -> Markup:
    """Return the values of lines as a table: at each number along the axis of time, and where a line ends."""
    lines = [one for one in sorted(lines, key=lambda one: not one.filled) if one.name and one.points]
    if not lines:
        return Markup("")
    ends = [one.points[-1][0] for one in lines]
    moments = {round(at): at for at in sorted([*(at for at, _ in axes.x_ticks), *ends])}
    head = _join(Markup('<th scope="col" class="num">{}</th>').format(one.name) for one in lines)
    row, cell = Markup('<tr><th scope="row">{}</th>{}</tr>'), Markup('<td class="num">{}</td>')
    rows = (
        row.format(_time(name, axes.x_end), _join(cell.format(_read(one, at)) for one in lines))
        for name, at in moments.items()
    )
    return Markup(
        '<details id="readings" class="small under"><summary>As a table</summary><table>'
        '<thead><tr><th scope="col">After</th>{}</tr></thead><tbody>{}</tbody></table></details>'
    ).format(head, _join(rows))


def _read(line: Line, at: float) -> str:
    """Return the value of a line at a moment; a dash where it has none."""
    place = bisect_right(line.points, at, key=itemgetter(0))
    return "-" if place == 0 or at > line.points[-1][0] else f"{line.points[place - 1][1]:,.0f}"


def strip(label: str, period: float, ages: Iterable[float], ahead: Part | None = None, height: int = 26) -> Markup:
    """Return a window: the last `period` seconds to the left of now, a tick for each call, and a period ahead.

    `ages` are the seconds since each call. `ahead`, (seconds, class), is for how long the state of that class
    lasts, such as `wait` for the next slot.
    """
    ticks = " ".join(
        f"M{_short(_UNITS / 2 * (1 - min(1.0, age / period)))} 0V{_UNITS}" for age in sorted(ages, reverse=True)
    )
    drawn = [
        Markup('<rect class="ground" width="50%" height="{}"/>').format(height),
        _INNER.format(0, height, _UNITS, Markup('<path class="tick" d="{}"/>').format(ticks)),
    ]
    if ahead is not None and ahead[0] > 0:
        width = min(50.0, 50 * ahead[0] / period)
        shape = Markup('<rect class="ahead {}" x="50%" y="{}" width="{}%" height="4"/>')
        drawn.append(shape.format(ahead[1], height / 2 - 2, _short(width)))
        if ahead[0] <= period:
            end = Markup('<line class="slot {0}" x1="{1}%" x2="{1}%" y1="0" y2="{2}"/>')
            drawn.append(end.format(ahead[1], _short(50 + width), height))
    drawn.append(Markup('<line class="now" x1="50%" x2="50%" y1="0" y2="{}"/>').format(height))
    return _frame("strip", label, height, drawn)


def histogram(label: str, end: float, moments: Iterable[float], parts: int = 120, height: int = 26) -> Markup:
    """Return the number of calls in each part of the time from 0 to `end`, scaled to the highest."""
    counts = [0] * parts
    for at in moments:
        counts[min(parts - 1, max(0, int(parts * at / (end or 1.0))))] += 1
    most, width = max(counts) or 1, _UNITS / parts
    bars = " ".join(
        f"M{_short(part * width)} {_UNITS}v-{_short(_UNITS * number / most)}h{_short(width * 0.9)}V{_UNITS}z"
        for part, number in enumerate(counts)
        if number
    )
    drawn = [
        _INNER.format(0, height, _UNITS, Markup('<path class="bars" d="{}"/>').format(bars)),
        Markup('<line class="axis" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(height - 0.5),
    ]
    return _frame("histogram", label, height, drawn)


def swatch(kind: str) -> Markup:
    """Return a sample of a part's colour, for a legend."""
    return Markup(
        '<svg class="plot swatch" aria-hidden="true"><rect class="{}" width="10" height="10" rx="2"/></svg>'
    ).format(kind)


def sample(kind: str) -> Markup:
    """Return a sample of a line, for a legend."""
    shape = Markup('<svg class="plot sample" aria-hidden="true"><line class="{}" x1="0" x2="22" y1="5" y2="5"/></svg>')
    return shape.format(kind)


def round_ticks(end: float, most: int) -> list[tuple[float, str]]:
    """Return at most `most` evenly spaced round numbers above 0 up to `end`, each with its words."""
    if end <= 0:
        return []
    least = end / most
    magnitude = 10 ** math.floor(math.log10(least))
    step = max(1, next(magnitude * one for one in (1, 2, 2.5, 5, 10) if magnitude * one >= least))
    return [(step * number, f"{step * number:,.0f}") for number in range(1, int(end / step) + 1)]


def time_ticks(end: float, most: int = 6) -> list[tuple[float, str]]:
    """Return round times from 0 to `end` seconds, each with its words."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
    step = next((one for one in steps if end / one <= most), 86400)
    return [(float(at), _time(at, end)) for at in range(0, int(end) + 1, step)]


def _time(at: int, end: float) -> str:
    """Return a time on an axis that ends at `end`, seconds."""
    if end <= _MINUTE:
        return f"{at} s"
    return f"{at // _MINUTE}:{at % _MINUTE:02d}" if end < _HOUR else f"{at // _HOUR}:{at % _HOUR // _MINUTE:02d} h"


def _y_tick(part: float, words: str, room: int) -> Markup:
    """Return a horizontal line with its number below it, because the names of marks are above the highest line."""
    y = _ABOVE + room * (1 - part)
    shape = Markup('<line class="axis" x1="0" x2="100%" y1="{0}" y2="{0}"/><text x="0" y="{1}">{2}</text>')
    return shape.format(_short(y), _short(y + 13), safe_line(words))


def _x_tick(part: float, words: str, height: int) -> Markup:
    anchor = "start" if part <= 0 else "end" if part >= 1 else "middle"
    return Markup('<text x="{}%" y="{}" text-anchor="{}">{}</text>').format(
        _short(100 * part), height - 5, anchor, safe_line(words)
    )


def _path(line: Line, x_end: float, y_end: float) -> Markup:
    shown = line.points[:: -max(1, -(-len(line.points) // _MOST_POINTS))][::-1]  # the last one is always among them
    placed = [(_UNITS * x / x_end, _UNITS * (1 - y / y_end)) for x, y in shown]
    if not placed:
        return Markup("")
    (x, y), *more = placed
    drawn = f"M{_short(x)} {_short(y)}" + "".join(f"H{_short(x)}V{_short(y)}" for x, y in more)
    shape = Markup('<path class="{}" d="{}"/>')
    area = shape.format(f"{line.kind} area", f"{drawn}V{_UNITS}H{_short(x)}Z") if line.filled else Markup("")
    return area + shape.format(line.kind, drawn)


def _mark(mark: PlotMark, part: float, y_end: float, room: int) -> Markup:
    x, turned = _short(100 * min(1.0, max(0.0, part))), part > _TURN
    anchor, aside = ("end", -6) if turned else ("start", 6)
    said = Markup('<text x="{}%" dx="{}" y="{}" text-anchor="{}" class="{}">{}</text>')
    if mark.y is None:
        words = said.format(x, 0 if turned else -aside + 6, 11, anchor, mark.kind, safe_line(mark.words))
        line = Markup('<line class="mark {0}" x1="{1}%" x2="{1}%" y1="{2}" y2="{3}"/>')
        return line.format(mark.kind, x, _ABOVE - 3, _ABOVE + room) + words
    y = _ABOVE + room * (1 - mark.y / y_end)
    dot = Markup('<circle class="{}" cx="{}%" cy="{}" r="4"/>').format(mark.kind, x, _short(y))
    return dot + said.format(x, aside, _short(y - 10), anchor, mark.kind, safe_line(mark.words))


def _frame(kind: str, label: str, height: int, drawn: Sequence[Markup], *, role: str = "img") -> Markup:
    """Return a picture. For a screen reader it is an `img` without content, unless it has links."""
    shape = Markup('<svg class="plot {}" height="{}" role="{}" aria-label="{}">{}</svg>')
    return shape.format(kind, height, role, safe_line(label), _join(drawn))


def _join(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def _short(number: float) -> str:
    """Return a number with at most one decimal, because there are many."""
    return f"{number:.1f}".removesuffix(".0")
