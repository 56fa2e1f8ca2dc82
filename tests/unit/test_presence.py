"""A supervisor is announced during a long turn, but not for ever."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from rlm.core.errors import StoreUnreachableError
from rlm.ledger.processes import Process
from rlm.processes import alive
from rlm.processes.alive import Presence
from tests.wait import wait_until


class Register:
    """Counts announcements; `away` makes them fail."""

    def __init__(self):
        self.said, self.tried, self.away = 0, 0, False
        self.store = SimpleNamespace(processes=self, guarded=nullcontext)

    def announce(self, _role, _process):
        self.tried += 1
        if self.away:
            raise StoreUnreachableError("gone")
        self.said += 1


@pytest.fixture
def register(monkeypatch):
    monkeypatch.setattr(alive, "HEARTBEAT_SECONDS", 0.02)
    monkeypatch.setattr(alive, "AGAIN_SECONDS", 0.01)
    return Register()


@pytest.fixture
def spoken_for(register):
    """A supervisor whose first turn never ends."""
    made = Presence(register.store, Process("here:1:a", 1, "here", 0.0))
    made.turn()
    made.start()
    yield made
    made.stop()


def test_a_long_turn_makes_nobody_late(register, spoken_for):
    """It announces itself all the same, also after Redis was away."""
    wait_until(lambda: register.said > 3, message="it is announced")
    register.away = True
    tried = register.tried
    wait_until(lambda: register.tried > tried + 3, message="it is tried again")
    register.away = False
    said = register.said
    wait_until(lambda: register.said > said, message="it is announced again")


def test_one_that_hangs_is_not_spoken_for(register, spoken_for, monkeypatch):
    """Its share is for the others to take."""
    monkeypatch.setattr(alive, "LONGEST_TURN_SECONDS", -1.0)
    wait_until(spoken_for._thread.is_alive, message="it runs")
    register.tried = 0
    spoken_for._stopped.wait(0.1)

    assert register.tried <= 1
    monkeypatch.setattr(alive, "LONGEST_TURN_SECONDS", 90.0)
    spoken_for.go_on()
    wait_until(lambda: register.tried > 1, message="it is announced again")
