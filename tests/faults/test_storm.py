"""Faults composed at random, with a printed seed, which reproduces a failure."""

from __future__ import annotations

import time

import pytest

from tests.faults.storm import Storm
from tests.leftbehind import nothing_left_behind

pytestmark = pytest.mark.alone


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_window_of_random_faults(tmp_path):
    """The short form: a seed of its own each time it runs."""
    live_through(tmp_path, 1)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_a_hundred_windows_of_random_faults(tmp_path):
    """The long form; `python -m tests.faults.storm` shows how it gets on."""
    live_through(tmp_path, 100)


def live_through(directory, windows):
    seed = int(time.time())
    print(f"seed {seed}: python -m tests.faults.storm --windows {windows} --seed {seed}")
    with nothing_left_behind(directory):
        tally = Storm(directory, seed).run(windows)
    print(tally)

    assert tally.windows == windows
