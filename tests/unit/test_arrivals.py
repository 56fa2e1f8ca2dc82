"""The arrivals between two runs, from their records."""

from __future__ import annotations

import pytest

from rlm.admin.planning import Arrivals, arrivals_of
from rlm.core.clock import isoformat

EVERY = 180.0
START = 1_700_000_000


def record(number, at=None, type_name="A"):
    """Return the record of the run of tick `at` that took this many."""
    return {"started_at": isoformat(START + EVERY * at), "by_type": {type_name: {"taken": number}}}


def test_it_is_the_mean_over_the_windows():
    """What runs on every tick took since the first of them, over how many windows that is."""
    found = arrivals_of([record(100, 2), record(200, 1), record(60, 0)], ["A", "B"], EVERY)

    assert found.by_type == {"A": 150.0, "B": 0.0}
    assert found.windows == 2


def test_what_the_first_run_took_had_gathered_for_nobody_knows_how_long():
    """1,200 after a night without a scheduler are not what a window brings; 60 in each of the next two are."""
    assert arrivals_of([record(60, 2), record(60, 1), record(1200, 0)], ["A"], EVERY).by_type == {"A": 60.0}


def test_less_than_a_window_tells_nothing():
    """A single run, and two by hand one after the other."""
    assert arrivals_of([record(500, 0)], ["A"], EVERY).windows == 0
    assert arrivals_of([record(500, 0.1), record(500, 0)], ["A"], EVERY).by_type == {"A": 0.0}


def test_ticks_without_a_record_are_windows_all_the_same():
    """Nothing to do leaves no record: 100 in four windows are 25 in each."""
    assert arrivals_of([record(100, 4), record(200, 0)], ["A"], EVERY).by_type == {"A": 25.0}


def test_a_run_started_by_hand_is_no_window_more():
    """What it took was taken from the next; one at the end takes what came until then."""
    between = arrivals_of([record(40, 1), record(60, 0.5), record(110, 0)], ["A"], EVERY)
    at_the_end = arrivals_of([record(50, 1.5), record(100, 1), record(110, 0)], ["A"], EVERY)

    assert between.by_type == at_the_end.by_type == {"A": pytest.approx(100.0)}


def test_ticks_since_the_last_record_are_windows_too():
    """Nothing has come since: 100 in what by now are ten windows; a tick before the last record changes nothing."""
    records = [record(100, 1), record(200, 0)]

    assert arrivals_of(records, ["A"], EVERY, until=START + 10 * EVERY).by_type == {"A": 10.0}
    assert arrivals_of(records, ["A"], EVERY, until=START).by_type == {"A": 100.0}


def test_without_records_nothing_arrives():
    """As far as is known."""
    found = arrivals_of([], ["A"], EVERY)

    assert (found.by_type, found.windows) == ({"A": 0.0}, 0)


def test_types_that_are_no_longer_configured_are_left_out():
    """A plan has no place for them."""
    records = [record(5, 1, "FORMER"), record(5, 0, "FORMER")]

    assert arrivals_of(records, ["A"], EVERY).by_type == {"A": 0.0}


def test_in_a_shorter_time_fewer_arrive():
    """Were runs three times as often, a third would arrive between two, whether it was measured or is given."""
    found = Arrivals({"A": 90.0, "B": 1.0}, EVERY, windows=5).but({"B": 30})

    assert found.within(60.0) == {"A": 30.0, "B": 10.0}
    assert found.given == {"B"}
