"""Columns side by side, as SVG: one group for each run, window or part of a day. Pure, as `plots.py` is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Heights of the picture, of its columns at the most, and of the texts above and below, pixels.
_HEIGHT, _TOP, _BELOW = 150, 18, 18
#: The part of its place that a group fills.
_FILLED = 0.8
#: The height of a strip.
_STRIP = 44
_SHAPE = Markup('<rect class="{}" x="{:.3f}%" y="{:.1f}" width="{:.3f}%" height="{:.1f}"/>')


class Group(NamedTuple):
    """Columns that stand together, (number, class) each, and what they are in words."""

    title: str
    columns: Sequence[tuple[float, str]]


def columns(label: str, groups: Sequence[Group], ends: tuple[str, str], at_most: float | None = None) -> Markup:
    """Return the groups from left to right, with a line at `at_most` if that is given.

    `label` says in words what they show, `ends` what the first and the last are.
    """
    highest = max([at_most or 0, 1, *(number for group in groups for number, _ in group.columns)])
    reach = _HEIGHT - _TOP - _BELOW
    floor = _TOP + reach
    drawn = [_group(group, at, len(groups), reach / highest) for at, group in enumerate(groups)]
    drawn.append(Markup('<line class="axis" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(floor))
    if at_most is not None:
        y = f"{floor - at_most * reach / highest:.1f}"
        drawn.append(Markup('<line class="most" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(y))
    drawn.append(_text(0, _TOP - 6, "start", f"{highest:,.0f}"))
    drawn += [_text(0, _HEIGHT - 4, "start", ends[0]), _text(100, _HEIGHT - 4, "end", ends[1])]
    frame = Markup('<svg class="plot" height="{0}" role="img" aria-label="{1}"><title>{1}</title>{2}</svg>')
    return frame.format(_HEIGHT, label, _joined(drawn))


def _group(group: Group, at: int, groups: int, scale: float) -> Markup:
    place = 100 / groups
    width = place * _FILLED / len(group.columns)
    drawn = []
    for number, (value, kind) in enumerate(group.columns):
        x, height = at * place + place * (1 - _FILLED) / 2 + number * width, max(1.0, value * scale)
        if value > 0:
            drawn.append(_SHAPE.format(kind, x, _HEIGHT - _BELOW - height, width * 0.92, height))
    return Markup("<g><title>{}</title>{}</g>").format(group.title, _joined(drawn))


def _text(x: float, y: float, anchor: str, text: str) -> Markup:
    return Markup('<text x="{}%" y="{}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def _joined(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def strip(label: str, values: Sequence[float], at_most: float) -> Markup:
    """Return a small course of values from left to right against what they may be `at_most`, a line on top of them.

    What is above that stands out, in class `fail`.
    """
    highest = max(at_most, *values) * 1.08 or 1
    scale, width = _STRIP / highest, 1000 / len(values)
    limit = f"{_STRIP - at_most * scale:.1f}"
    parts = [_steps(values, scale, width, "area")]
    if max(values) > at_most:
        parts.append(_steps([value if value > at_most else 0 for value in values], scale, width, "area fail"))
    parts.append(Markup('<path class="most" d="M0 {0}H1000"/>').format(limit))
    frame = Markup(
        '<svg class="plot" height="{0}" viewBox="0 0 1000 {0}" preserveAspectRatio="none" role="img" '
        'aria-label="{1}"><title>{1}</title>{2}</svg>'
    )
    return frame.format(_STRIP, label, _joined(parts))


def _steps(values: Sequence[float], scale: float, width: float, kind: str) -> Markup:
    """Return the area below the values, each as wide as the others."""
    drawn = [f"M0 {_STRIP}"]
    before = 0.0
    for at, value in enumerate(values):
        if value != before:
            drawn.append(f"H{at * width:.0f}V{_STRIP - value * scale:.1f}")
            before = value
    return Markup('<path class="{}" d="{}H1000V{}Z"/>').format(kind, "".join(drawn), _STRIP)
