"""The pictures of the dashboard: the places of their shapes, and that their input cannot escape."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from rlm.web.pages.plots import Axes, Column, Line, PlotMark, bar, columns, curve, strip

HOSTILE = '"><script>alert(1)</script>\x1b[31m'


def shapes(picture, kind, tag="rect"):
    """The attributes of the shapes with a class, percent as numbers."""
    found = [one for one in ET.fromstring(str(picture)).iter(tag) if kind in one.get("class", "").split()]
    return [{key: float(value.strip("%")) for key, value in one.items() if key not in {"class", "d"}} for one in found]


def test_a_curve_has_a_table_of_its_lines():
    """At each number along the axis and where a line ends; exact, however few points there is room for."""
    measured = [(at / 1000, at) for at in range(19_401)]
    lines = [
        Line(measured, "measured", name="<done>"),
        Line([(19.4, 19_400), (28, 30_000)], "forecast", name="expected"),
    ]
    axes = Axes(45, 40_000, [(0.0, "0 s"), (20.0, "20 s"), (40.0, "40 s")])
    picture = curve("c", axes, [*lines, Line([], "planned", name="planned"), Line([(0, 1)], "most")])

    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', picture)
    assert re.findall(r'<th scope="col" class="num">(.*?)</th>', picture) == ["&lt;done&gt;", "expected"]
    assert [(at, *re.findall(r"<td[^>]*>(.*?)</td>", cells)) for at, cells in rows] == [
        ("0 s", "0", "-"),
        ("19 s", "19,400", "19,400"),
        ("20 s", "-", "19,400"),
        ("28 s", "-", "30,000"),
        ("40 s", "-", "-"),
    ]
    assert len(re.findall("H", re.search(r'<path class="measured" d="([^"]+)"', picture)[1])) < 300


@pytest.mark.parametrize(
    "picture",
    [
        bar(HOSTILE, (1, "done")),
        columns(HOSTILE, [Column(HOSTILE, [(1, "done")], HOSTILE)]),
        curve(HOSTILE, Axes(1, 1, [(0, HOSTILE)], [(1, HOSTILE)]), [], [PlotMark(1, HOSTILE, "x", 1)]),
        strip(HOSTILE, 1, [0]),
    ],
)
def test_texts_cannot_leave_their_place(picture):
    """Markup is escaped, and a terminal's command is shown."""
    ET.fromstring(str(picture))  # it is well formed, which a raw escape character is not
    assert "<script" not in picture
    assert "style=" not in picture
