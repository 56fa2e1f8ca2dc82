"""The pictures of the dashboard: the places of their shapes, and that their input cannot escape."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from rlm.web.pages.plots import Axes, Line, PlotMark, bar, curve

HOSTILE = '"><script>alert(1)</script>\x1b[31m'


def shapes(picture, kind, tag="rect"):
    """The attributes of the shapes with a class, percent as numbers."""
    found = [one for one in ET.fromstring(str(picture)).iter(tag) if kind in one.get("class", "").split()]
    return [{key: float(value.strip("%")) for key, value in one.items() if key not in {"class", "d"}} for one in found]


def test_a_bar_is_divided_in_proportion():
    """Each part begins where the one before ends, and all of them fill it."""
    picture = bar("a", (30, "done"), (0, "busy"), (10, "wait"))

    assert shapes(picture, "done")[0]["width"] == 75
    assert (shapes(picture, "wait")[0]["x"], shapes(picture, "wait")[0]["width"]) == (75, 25)
    assert shapes(picture, "busy") == []


def test_an_empty_curve_is_drawn():
    """No point, no event, no window: nothing to divide by."""
    ET.fromstring(str(curve("c", Axes(0, 0, (), ()), [Line([], "measured", filled=True)])))


@pytest.mark.parametrize(
    "picture",
    [
        bar(HOSTILE, (1, "done")),
        curve(HOSTILE, Axes(1, 1, [(0, HOSTILE)], [(1, HOSTILE)]), [], [PlotMark(1, HOSTILE, "x", 1)]),
    ],
)
def test_texts_cannot_leave_their_place(picture):
    """Markup is escaped, and a terminal's command is shown."""
    ET.fromstring(str(picture))  # it is well formed, which a raw escape character is not
    assert "<script" not in picture
    assert "style=" not in picture
