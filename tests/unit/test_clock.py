"""The clock that all code uses, and how its times are shown."""

from __future__ import annotations

import time

import pytest

from rlm.core.clock import Clock, isoformat, system_clock
from tests.clocks import SetClock


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1703169025.123, "2023-12-21T14:30:25.123Z"),
        (1703169025.1239, "2023-12-21T14:30:25.123Z"),
        (-0.001, "1969-12-31T23:59:59.999Z"),
    ],
)
def test_times_are_shown_in_utc_to_the_millisecond(seconds, text, monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert isoformat(seconds) == text
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_clock_is_the_machines():
    before, wall_before = system_clock.monotonic(), system_clock.now()
    system_clock.sleep(0.002)

    assert system_clock.monotonic() - before >= 0.002
    assert abs(system_clock.now() - time.time()) < 5
    assert system_clock.now() >= wall_before


def test_processes_of_a_host_that_wake_by_its_beat_wake_together():
    beats = set()
    for now in (1000.0, 1001.25, 1003.4):
        clock = SetClock(now)
        clock.sleep(Clock.to_beat(clock, 3.5))
        beats.add(clock.time)
        assert Clock.to_beat(clock, 3.5) == 3.5

    assert beats == {1001.0, 1004.5}
