"""What a demo shows during its run, on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest

from rlm.sandbox.demo import view_on
from rlm.terminal.record import line_of

PLAN = {
    "actual_seconds": None,
    "workers": 3,
    "threads": 5,
    "forecast_seconds": 10.77,
    "lower_bound_seconds": 6.4,
    "expected_leftover": 0,
}
COUNTS = {"taken": 180, "carried_over": 0, "completed": 60, "failed": 0, "leftover": 120, "invalid": 0, "duplicates": 0}
DONE = {**COUNTS, "completed": 180, "leftover": 0}
FOUND = {
    "run_id": "r",
    "state": "running",
    "trigger": "manual",
    "started_at": "2026-11-25T10:15:00.123Z",
    "duration_seconds": 4.2,
    "window_seconds": 18.0,
    "seconds_left": 13.8,
    "troubles": [],
    "why": [],
    "redis_away_seconds": 0.0,
    "failure": "",
    "called_seconds": 3.6,
    "counts": COUNTS,
    "by_type": {"REBALANCE_NEEDED": COUNTS, "NEW_BALANCE_UPDATE": DONE},
    "by_endpoint": {},
    "plan": PLAN,
    "workers": {
        "wanted": 3,
        "ready": 3,
        "now": 3,
        "peak": 3,
        "restarted": 0,
        "each": [
            {"pid": 1, "host": "h", "state": "ready", "threads": 5, "busy": busy, "calls": []} for busy in (5, 4, 0)
        ],
    },
}
_OPEN = {"seconds_left", "called_seconds"}
RUNNING = FOUND
DRAINING = {**FOUND, "state": "draining"}
OVER = {
    **{key: value for key, value in FOUND.items() if key not in _OPEN},
    "state": "completed",
    "duration_seconds": 11.4,
    "finished_at": "2026-11-25T10:15:11.523Z",
    "workers": {"peak": 3, "restarted": 0},
    "used": {"calls_per_minute": 0.0},
}


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def test_a_terminal_is_drawn_on_and_given_back():
    """On a terminal the picture is drawn in place, and the cursor is there again."""
    stream = Terminal()

    with view_on(stream, "RLM demo") as view:
        view.show(DRAINING)
        view.show(RUNNING)
        view.show(OVER)

    written = stream.getvalue()
    assert "taking the items" in written
    assert "14 s left" in written
    assert "RLM demo" in written
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")


def test_a_pipe_gets_plain_lines_even_where_colour_is_forced(monkeypatch):
    """A script never finds a control character in its input."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()

    with view_on(stream, "RLM demo") as view:
        for moment in (DRAINING, RUNNING, OVER):
            view.show(moment)

    told = [line.partition("  ")[2] for line in stream.getvalue().splitlines()]
    assert told == [line_of(moment) for moment in (DRAINING, RUNNING, OVER)]
    assert all(line.isprintable() for line in told)


@pytest.mark.parametrize(("window", "pause"), [(18.0, 1.0), (180.0, 3.0)])
def test_plain_lines_come_once_a_second_or_less(window, pause):
    """Between two states a line comes a second after the last; in a long window less often."""
    stream = io.StringIO()
    view = view_on(stream, "RLM demo")
    for seconds in (0.0, pause - 0.01, pause, pause + 0.5, 2 * pause):
        view.show({**RUNNING, "window_seconds": window, "seconds_left": 6 * pause + 2 * pause - 0.001 - seconds})

    assert sum("running" in line for line in stream.getvalue().splitlines()) == 3
