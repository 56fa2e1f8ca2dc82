"""The pictures of the dashboard: the places of their shapes, and that their input cannot escape."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from rlm.web.pages.plots import Axes, Column, Line, PlotMark, bar, columns, curve, round_ticks, strip, time_ticks

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


def test_one_of_a_million_is_seen():
    """And the bar gets no wider than its place for it."""
    picture = bar("a", (1_000_000, "done"), (1, "fail"))
    widths = [shapes(picture, kind)[0]["width"] for kind in ("done", "fail")]

    assert widths[1] > 0
    assert sum(widths) <= 100


def test_a_bar_of_a_whole_is_filled_in_part():
    """What is beyond the whole fills it and no more."""
    assert shapes(bar("a", (3, "busy"), whole=12), "busy")[0]["width"] == 25
    assert shapes(bar("a", (30, "busy"), whole=12), "busy")[0]["width"] == 100
    assert shapes(bar("a", whole=0), "busy") == []


def test_columns_share_a_scale():
    """The highest is as high as there is room; each has its words, and leads somewhere if it says where."""
    picture = columns("c", [Column("one", [(10, "done")], "/runs/1"), Column("two", [(4, "done"), (1, "fail")])], 100)
    high, low = shapes(picture, "done")

    assert high["height"] == pytest.approx(96)
    assert low["height"] == pytest.approx(38.4)
    assert shapes(picture, "fail")[0]["y"] < low["y"]
    assert '<a href="/runs/1"><title>one</title>' in picture
    assert "<g><title>two</title>" in picture


def test_few_columns_are_not_wide():
    """They stand in the middle of their places."""
    (one,) = shapes(columns("c", [Column("one", [(10, "done")])]), "done")

    assert (one["x"], one["width"]) == (46, 8)


def test_a_curve_puts_its_points_where_they_belong():
    """Across by the end of the axis, up by the other; it goes across first."""
    picture = curve("c", Axes(200, 100), [Line([(0, 0), (100, 50)], "measured"), Line([(0, 0), (200, 100)], "x")])
    paths = re.findall(r'<path class="(\w+)" d="([^"]+)"', picture)

    assert paths == [("measured", "M0 1000H500V500"), ("x", "M0 1000H1000V0")]


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


def test_a_mark_stays_inside():
    """Behind the right end its words stand to the left of it, and it does not leave the picture."""
    picture = curve("c", Axes(100, 10), [], [PlotMark(250, "late", "deadline")])

    assert shapes(picture, "deadline", "line")[0]["x1"] == 100
    assert 'text-anchor="end"' in picture


def test_an_empty_curve_is_drawn():
    """No point, no event, no window: nothing to divide by."""
    ET.fromstring(str(curve("c", Axes(0, 0), [Line([], "measured", filled=True)])))


def test_a_strip_has_a_tick_for_each_call():
    """Now is in the middle, a period ago at the left end, where older ones stay, and the next slot to the right."""
    picture = strip("s", 60, [0, 30, 60, 60.4], (15, "wait"))

    assert re.search(r'class="tick" d="([^"]+)"', picture)[1] == "M0 0V1000 M0 0V1000 M250 0V1000 M500 0V1000"
    assert shapes(picture, "slot", "line")[0]["x1"] == 62.5
    assert shapes(strip("s", 60, [], (3600, "warn")), "slot", "line") == []  # it lies beyond the period ahead
    assert shapes(strip("s", 60, []), "ahead") == []


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


@pytest.mark.parametrize("end", [0, 1, 3, 9, 10, 99, 1000, 123_456])
def test_ticks_are_round_and_few(end):
    """At most as many as asked for, none beyond the end."""
    ticks = round_ticks(end, 4)

    assert len(ticks) <= 4
    assert bool(ticks) == (end > 0)
    assert all(0 < at <= end for at, _ in ticks)


def test_times_along_an_axis_are_round():
    """Seconds up to a minute, minutes beyond it, hours beyond an hour."""
    assert time_ticks(30) == [
        (0, "0 s"),
        (5, "5 s"),
        (10, "10 s"),
        (15, "15 s"),
        (20, "20 s"),
        (25, "25 s"),
        (30, "30 s"),
    ]
    assert [words for _, words in time_ticks(180)] == ["0:00", "0:30", "1:00", "1:30", "2:00", "2:30", "3:00"]
    assert time_ticks(7200)[-1] == (7200, "2:00 h")
