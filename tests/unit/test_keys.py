"""The keyboard of a view: `q` ends it, other keys are ignored, and the terminal is restored at the end."""

from __future__ import annotations

import os
import pty
import termios

import pytest

from rlm.terminal import live
from rlm.terminal.live import Keyboard, keyboard


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of this foreground process: the end to type at, and the process's end."""
    typist, own = pty.openpty()
    monkeypatch.setattr(live, "_terminal", lambda: own)
    yield typist, own
    os.close(typist)
    os.close(own)


@pytest.mark.parametrize(("typed", "quits"), [(b"q", True), (b"xyz\x1b[AQ", True), (b"xyz\r", False), (b"", False)])
def test_q_ends_a_view_and_other_keys_do_nothing(terminal, typed, quits):
    """Whatever else is typed before it."""
    typist, _ = terminal
    with keyboard() as found:
        if typed:
            os.write(typist, typed)

        assert found.wait(0.05) == quits


def test_what_is_typed_is_not_shown_and_the_terminal_is_as_before(terminal):
    """Its settings come back, and what was typed is not left for the shell."""
    typist, own = terminal
    before = termios.tcgetattr(own)
    with keyboard():
        assert not termios.tcgetattr(own)[3] & termios.ECHO
        os.write(typist, b"rm -rf")

    assert termios.tcgetattr(own) == before
    os.set_blocking(own, False)
    with pytest.raises(BlockingIOError):
        os.read(own, 10)


def test_without_a_terminal_it_only_waits():
    """In a pipe, in the background, with stdin closed."""
    assert live._terminal() is None
    with keyboard() as found:
        assert not found.wait(0.01)


def test_a_view_in_a_pipe_ends_when_its_reader_is_gone():
    """At once, and not with the next line, which may be due in hours: the view wrote nothing while nothing changed."""
    reading, writing = os.pipe()
    found = Keyboard(None, writing)
    assert not found.wait(0.01)

    os.close(reading)

    with pytest.raises(BrokenPipeError):
        found.wait(20.0)
    os.close(writing)


def test_a_terminal_that_is_gone_is_read_no_more():
    """Else it would be ready for ever, and the view would spin."""
    reading, writing = os.pipe()
    os.close(writing)
    found = Keyboard(reading)

    assert not found.wait(0.01)
    assert found._file is None
    os.close(reading)
