"""The keyboard of a view: `q` ends it, other keys are ignored, and the terminal is restored at the end."""

from __future__ import annotations

import os
import pty
import termios

import pytest

from rlm.terminal import live
from rlm.terminal.live import keyboard


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of this foreground process: the end to type at, and the process's end."""
    typist, own = pty.openpty()
    monkeypatch.setattr(live, "_terminal", lambda: own)
    yield typist, own
    os.close(typist)
    os.close(own)


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
