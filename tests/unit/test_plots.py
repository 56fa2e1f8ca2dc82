"""The pictures of the dashboard: the places of their shapes, and that their input cannot escape."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from rlm.web.pages.plots import Axes, PlotMark, bar, curve

HOSTILE = '"><script>alert(1)</script>\x1b[31m'


def shapes(picture, kind, tag="rect"):
    """The attributes of the shapes with a class, percent as numbers."""
    found = [one for one in ET.fromstring(str(picture)).iter(tag) if kind in one.get("class", "").split()]
    return [{key: float(value.strip("%")) for key, value in one.items() if key not in {"class", "d"}} for one in found]


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
