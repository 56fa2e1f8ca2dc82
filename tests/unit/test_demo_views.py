"""What a demonstration shows while it goes on, on a terminal and anywhere else."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from rlm.demo import phrases, views
from rlm.demo.moment import Moment, Progress, Use
from rlm.demo.screen import picture
from rlm.demo.views import PlainView, view_on
from rlm.run import State

PLAN = {"workers": 3, "threads": 5, "forecast_seconds": 10.77, "lower_bound_seconds": 6.4, "expected_leftover": 0}
RUNNING = Moment(
    state=State.RUNNING,
    elapsed_seconds=4.2,
    window_seconds=18.0,
    types=(
        Progress("REBALANCE_NEEDED", 180, 60, 0, (Use(30, 30), Use(12, 30), Use(0, 30))),
        Progress("NEW_BALANCE_UPDATE", 180, 180, 0, (Use(7, 30),)),
    ),
    plan=PLAN,
    called_seconds=3.6,
    wanted=3,
    threads=5,
    busy=(5, 4, 0),
)
DRAINING = replace(RUNNING, state=State.DRAINING, plan=None, called_seconds=None, wanted=0, busy=())
OVER = replace(RUNNING, state=State.COMPLETED, elapsed_seconds=11.4, called_seconds=None, wanted=0, busy=())


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


class Clock:
    seconds = 0.0

    def monotonic(self):
        return self.seconds


@pytest.fixture
def clock(monkeypatch):
    """The clock by which the plain view counts its seconds."""
    clock = Clock()
    monkeypatch.setattr(views, "system_clock", clock)
    return clock


def drawn(moment, width=100, **options):
    console = Console(file=io.StringIO(), width=width, force_terminal=False, **options)
    console.print(picture(moment, "RLM demo"))
    return console.file.getvalue()


def test_the_picture_shows_countdown_forecast_types_endpoints_and_workers():
    """Everything a person wants to know of a run is in the picture."""
    lines = drawn(RUNNING).splitlines()

    assert "13.8 s left" in lines[2]
    assert "forecast: done at 10.8 s; now at 3.6 s" in lines[3]
    (first,) = (line for line in lines if "REBALANCE_NEEDED" in line)
    assert [word for word in first.split() if "/" in word] == ["60/180", "30/30", "12/30", "0/30"]
    assert any("3 of 3 workers ready, 9 of 15 lanes busy: 540" in line for line in lines)


@pytest.mark.parametrize("width", [40, 80, 110])
@pytest.mark.parametrize("moment", [DRAINING, RUNNING, OVER], ids=lambda one: one.state)
def test_the_picture_fits_its_terminal(moment, width):
    """No line is wider than the terminal, whatever there is to show."""
    assert max(map(len, drawn(moment, width).splitlines())) == width


def test_the_picture_says_when_it_is_over():
    """At the end the countdown becomes what it took, and nobody works any more."""
    picture = drawn(OVER)

    assert "11.4 s of 18 s" in picture
    assert "completed" in picture
    assert "workers no longer needed" in picture


def test_a_terminal_is_drawn_on_and_given_back():
    """On a terminal the picture is drawn in place, and the cursor is there again."""
    stream = Terminal()

    with view_on(stream, "RLM demo") as view:
        view.show(DRAINING)
        view.show(RUNNING)

    written = stream.getvalue()
    assert "taking the items" in written
    assert "13.8 s left" in written
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")


def test_a_dumb_terminal_is_not_drawn_on(monkeypatch):
    """Where the cursor cannot be moved there are lines."""
    monkeypatch.setenv("TERM", "dumb")

    assert isinstance(view_on(Terminal(), ""), PlainView)


def test_a_pipe_gets_plain_lines_even_where_colour_is_forced(monkeypatch):
    """A script never finds a control character in its input."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()

    with view_on(stream, "RLM demo") as view:
        for moment in (DRAINING, RUNNING, OVER):
            view.show(moment)

    assert stream.getvalue().splitlines() == [
        "  4.2 s  draining: 360 events taken so far",
        "  4.2 s  planned: 3 workers of 5 lanes, done 10.8 s after the first call, nothing left over",
        "  4.2 s  running: 240 of 360 completed; 3 of 3 workers ready, 9 of 15 lanes busy; 13.8 s left",
        " 11.4 s  completed: 240 of 360 completed",
    ]


@pytest.mark.parametrize(("window", "pause"), [(18.0, 1.0), (180.0, 3.0)])
def test_plain_lines_come_once_a_second_or_less(clock, window, pause):
    """Between two states a line comes a second after the last; in a long window less often."""
    stream = io.StringIO()
    view = PlainView(stream)
    moment = replace(RUNNING, window_seconds=window)
    for seconds in (0.0, pause - 0.01, pause, pause + 0.5, 2 * pause):
        clock.seconds = seconds
        view.show(moment)

    assert sum("running" in line for line in stream.getvalue().splitlines()) == 3


@pytest.mark.parametrize(("number", "text"), [(0, "0 events"), (1, "1 event"), (2, "2 events"), (1785, "1,785 events")])
def test_numbers_have_their_nouns(number, text):
    """One event is no events."""
    assert phrases.counted(number, "event") == text
