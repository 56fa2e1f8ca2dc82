"""The file that shows from outside that a process's loop runs."""

from __future__ import annotations

import logging

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


def test_without_the_variable_there_is_none(tmp_path, monkeypatch):
    """Unset and empty are the same."""
    monkeypatch.chdir(tmp_path)
    AliveFile({}).touch()
    AliveFile({ALIVE_VARIABLE: ""}).touch()

    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_told_of_and_ends_nothing(tmp_path, caplog):
    """Neither a missing directory nor a link."""
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for file in (AliveFile({ALIVE_VARIABLE: str(tmp_path / place)}) for place in ("none/alive", "link")):
        with caplog.at_level(logging.WARNING):
            file.touch()

    assert [record.action for record in caplog.records] == ["touch"] * 2
    assert not (tmp_path / "elsewhere").exists()
