"""The few pictures of the dashboard, as SVG: pure functions of numbers. Colours come from the style sheet, by class.

A picture is as wide as its place. Positions across are parts of that width, so text in it keeps its size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Sequence


def bar(label: str, *parts: tuple[float, str], whole: float = 0, height: int = 12) -> Markup:
    """Return a bar of parts, (number, class) each, which fill its width, or as much as they are of the `whole`.

    `label` says in words what it shows. Parts that are not 0 can be seen however small.
    """
    total = max(whole, sum(number for number, _ in parts)) or 1.0
    drawn, at = [], 0.0
    for number, kind in parts:
        if number <= 0:
            continue
        width = max(0.4, 100 * number / total)
        drawn.append(
            Markup('<rect class="{}" x="{:.2f}%" width="{:.2f}%" height="{}"/>').format(kind, at, width, height)
        )
        at += width
    frame = Markup('<svg class="plot bar" height="{0}" role="img" aria-label="{1}"><title>{1}</title>{2}</svg>')
    return frame.format(height, label, _join(drawn))


def _join(parts: Sequence[Markup]) -> Markup:
    return Markup("").join(parts)
