"""What arrives between two runs, from their records."""

from __future__ import annotations

import pytest

from rlm.arrivals import arrivals_of
from rlm.clock import isoformat

EVERY = 180.0
START = 1_700_000_000


def record(number, at=None, type_name="A"):
    """The record of the run of tick `at` that took this many."""
    return {"started_at": isoformat(START + EVERY * at), "by_type": {type_name: {"taken": number}}}


def test_it_is_the_mean_over_the_windows():
    """Runs on every tick: what they took, over how many they were."""
    found = arrivals_of([record(100, 2), record(200, 1), record(60, 0)], ["A", "B"], EVERY)

    assert found.by_type == {"A": 120.0, "B": 0.0}
    assert (found.runs, found.windows) == (3, 3)


def test_ticks_without_a_record_are_windows_all_the_same():
    """Nothing to do leaves no record: 300 in five windows are 60 in each."""
    assert arrivals_of([record(100, 4), record(200, 0)], ["A"], EVERY).by_type == {"A": 60.0}


def test_a_run_started_by_hand_is_no_window_more():
    """What it took was taken from the next."""
    found = arrivals_of([record(40, 1), record(50, 0.5), record(110, 0)], ["A"], EVERY)

    assert found.by_type == {"A": pytest.approx(100.0)}


def test_ticks_since_the_last_record_are_windows_too():
    """Nothing has come since: 300 in what by now are ten windows; a tick before the last record changes nothing."""
    records = [record(100, 1), record(200, 0)]

    assert arrivals_of(records, ["A"], EVERY, until=START + 9 * EVERY).by_type == {"A": 30.0}
    assert arrivals_of(records, ["A"], EVERY, until=START).by_type == {"A": 150.0}


def test_without_records_nothing_arrives():
    """As far as is known."""
    found = arrivals_of([], ["A"], EVERY)

    assert (found.by_type, found.runs) == ({"A": 0.0}, 0)


def test_types_that_are_no_longer_configured_are_left_out():
    """A plan has no place for them."""
    assert arrivals_of([record(5, 0, "FORMER")], ["A"], EVERY).by_type == {"A": 0.0}


def test_in_a_shorter_time_fewer_arrive():
    """Were runs three times as often, a third would arrive between two."""
    assert arrivals_of([record(90, 0)], ["A"], EVERY).within(60.0) == {"A": 30.0}
