"""The pictures of the dashboard as SVG: pure functions of numbers. Colours come from the style sheet, by class.

A picture is as wide as its place: horizontal positions are percentages, so lines and text in it keep their size. Curves
are in an inner picture that is stretched. Classes of parts: `done`, `busy`, `wait`, `fail` and `left` of
events; `measured`, `planned` and `forecast` of lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from markupsafe import Markup

from rlm.core.text import safe_line, span

Point = tuple[float, float]
#: Width and height of the stretched inner picture, in its units.
_UNITS: Final = 1000
#: Pixels below a curve for the numbers along it, and above it for the names of marks.
_BELOW, _ABOVE = 20, 18
_LINES: Final = frozenset({"measured", "planned", "forecast"})


class Line(NamedTuple):
    """A line of a class that rises at its points; `filled`: the area below it has a colour."""

    points: Sequence[Point]
    kind: str
    filled: bool = False


class PlotMark(NamedTuple):
    """A moment, drawn as a vertical line with words above it."""

    x: float
    words: str
    kind: str


def bar(label: str, *parts: tuple[float, str], whole: float = 0, height: int = 12) -> Markup:
    """Return a bar of parts, (number, class) each, which fill its width, or their share of the `whole`.

    `label` describes it in words. A part that is not 0 is visible however small it is.
    """
    shown = [(number, kind) for number, kind in parts if number > 0]
    total = max(whole, sum(number for number, _ in shown)) or 1.0
    widths = [max(0.4, 100 * number / total) for number, _ in shown]
    scale = min(1.0, 100 / sum(widths)) if widths else 1.0
    drawn, at = [Markup('<rect class="ground" width="100%" height="{}" rx="2"/>').format(height)], 0.0
    for width, (_, kind) in zip(widths, shown, strict=True):
        shape = Markup('<rect class="{}" x="{}%" width="{}%" height="{}"/>')
        drawn.append(shape.format(kind, _short(at), _short(width * scale), height))
        at += width * scale
    return _frame("bar", label, height, drawn)


def curve(label: str, ends: Point, lines: Sequence[Line], marks: Iterable[PlotMark] = (), height: int = 260) -> Markup:
    """Return lines over seconds and a number, from 0 to `ends`, later lines on top, with marks.

    `label` describes it in words. The highest point of a line has its number.
    """
    room, (x_end, y_end) = height - _ABOVE - _BELOW, ends
    top = max(number for line in lines for _, number in line.points)
    drawn = [_y_tick(top / y_end, f"{top:,.0f}", room)]
    drawn += [_x_tick(at / x_end, words, height) for at, words in time_ticks(x_end)]
    inner = Markup(
        '<svg y="{0}" width="100%" height="{1}" viewBox="0 0 {2} {2}" preserveAspectRatio="none" overflow="visible">'
        "{3}</svg>"
    )
    drawn.append(inner.format(_ABOVE, room, _UNITS, _join(_path(line, x_end, y_end) for line in lines)))
    drawn += [_mark(mark, mark.x / x_end, room) for mark in marks]
    return _frame("curve", label, height, drawn)


def legend(**kinds: str) -> Markup:
    """Return the list of kinds of parts or lines, each with a sample of its colour and its word; none without one."""
    drawn = {
        "sample": Markup('<line class="{}" x1="0" x2="22" y1="5" y2="5"/>'),
        "swatch": Markup('<rect class="{}" width="10" height="10" rx="2"/>'),
    }
    entry = Markup('<li><svg class="plot {}" aria-hidden="true">{}</svg>{}</li>')
    shapes = ((kind, word, "sample" if kind in _LINES else "swatch") for kind, word in kinds.items() if word)
    return Markup('<ul class="legend">{}</ul>').format(
        _join(entry.format(shape, drawn[shape].format(kind), word) for kind, word, shape in shapes)
    )


def time_ticks(end: float) -> list[tuple[float, str]]:
    """Return at most seven round times from 0 to `end` seconds, each with its words."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800)
    step = next((seconds for seconds in steps if end <= 6 * seconds), 86400)
    return [(float(at), span(at) if at else "0") for at in range(0, int(end) + 1, step)]


def _y_tick(part: float, words: str, room: int) -> Markup:
    """Return a horizontal line with its number below it, because the names of marks are above the highest line."""
    y = _ABOVE + room * (1 - part)
    shape = Markup('<line class="axis" x1="0" x2="100%" y1="{0}" y2="{0}"/><text x="0" y="{1}">{2}</text>')
    return shape.format(_short(y), _short(y + 13), words)


def _x_tick(part: float, words: str, height: int) -> Markup:
    anchor = "start" if part <= 0 else "end" if part >= 1 else "middle"
    shape = Markup('<text x="{}%" y="{}" text-anchor="{}">{}</text>')
    return shape.format(_short(100 * part), height - 5, anchor, words)


def _path(line: Line, x_end: float, y_end: float) -> Markup:
    shown = line.points[:: -max(1, -(-len(line.points) // 300))][::-1]  # enough for its width, and the last one
    if not shown:
        return Markup("")
    (x, y), *more = [(_UNITS * x / x_end, _UNITS * (1 - y / y_end)) for x, y in shown]
    drawn = f"M{_short(x)} {_short(y)}" + "".join(f"H{_short(x)}V{_short(y)}" for x, y in more)
    shape = Markup('<path class="{}" d="{}"/>')
    area = shape.format(f"{line.kind} area", f"{drawn}V{_UNITS}H{_short(x)}Z") if line.filled else Markup("")
    return area + shape.format(line.kind, drawn)


def _mark(mark: PlotMark, part: float, room: int) -> Markup:
    x, turned = _short(100 * min(1.0, max(0.0, part))), part > 0.65  # noqa: PLR2004  # else its words were cut
    shape = Markup(
        '<line class="mark {0}" x1="{1}%" x2="{1}%" y1="{2}" y2="{3}"/>'
        '<text x="{1}%" y="11" text-anchor="{4}" class="{0}">{5}</text>'
    )
    return shape.format(mark.kind, x, _ABOVE - 3, _ABOVE + room, "end" if turned else "start", safe_line(mark.words))


def _frame(kind: str, label: str, height: int, drawn: Iterable[Markup]) -> Markup:
    """Return a picture, whose content is its label for a screen reader."""
    shape = Markup('<svg class="plot {}" height="{}" role="img" aria-label="{}">{}</svg>')
    return shape.format(kind, height, safe_line(label), _join(drawn))


def _join(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def _short(number: float) -> str:
    """Return a number with at most one decimal, because there are many."""
    return f"{number:.1f}".removesuffix(".0")
