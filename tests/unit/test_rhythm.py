"""How late the turns of the release loop begin, and for how long a halt counts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from scheduler import releases
from scheduler.releases import MOST_LAG_SECONDS, Rhythm


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(releases, "system_clock", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def take_turns(clock, rhythm, number, late_seconds=0.0):
    """Take turns that begin late by `late_seconds`; return the last lag."""
    lag = 0.0
    for _ in range(number):
        lag = rhythm.begin()
        clock.now += rhythm.pause(0.025) + late_seconds
    return lag


def test_a_halt_is_remembered_until_the_next_forecast(clock):
    """One comes once a second, some thirty turns later, and lanes need as many calls then."""
    rhythm = Rhythm()
    take_turns(clock, rhythm, 1, late_seconds=0.1)

    assert take_turns(clock, rhythm, 35) > 0.05


def test_a_halt_is_forgotten_in_the_end(clock):
    """Lanes are given what they can do in a moment, no more."""
    rhythm = Rhythm()
    take_turns(clock, rhythm, 1, late_seconds=60.0)

    assert take_turns(clock, rhythm, 1) == MOST_LAG_SECONDS
    assert take_turns(clock, rhythm, 1000) < 0.001
