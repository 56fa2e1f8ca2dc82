"""The file that shows from outside that a process's loop runs."""

from __future__ import annotations

import pytest

from rlm.processes import alive
from rlm.processes.alive import ALIVE_VARIABLE, AliveFile
from rlm.processes.signals import Wakeup
from tests.clocks import SetClock


@pytest.fixture
def clock(monkeypatch):
    clock = SetClock()
    monkeypatch.setattr(alive, "system_clock", clock)
    return clock


@pytest.fixture
def wakeup(tmp_path):
    """The pipe of a loop that touches `tmp_path / "alive"`."""
    wakeup = Wakeup(AliveFile({ALIVE_VARIABLE: str(tmp_path / "alive")}).touch)
    yield wakeup
    wakeup.close()


def test_each_turn_of_a_loop_touches_it_when_it_is_time(wakeup, clock, tmp_path):
    """The first turn makes the file; of those that follow in the same 5 s none costs anything."""
    file = tmp_path / "alive"
    wakeup.drain()
    assert file.exists()

    file.unlink()
    clock.time += alive.TOUCH_SECONDS - 0.1
    wakeup.drain()
    assert not file.exists()

    clock.time += 0.2
    wakeup.drain()
    assert file.exists()
