"""The events a second between runs, from their records."""

from __future__ import annotations

import pytest

from rlm.admin.planning import arrivals_of
from rlm.core.clock import isoformat
from tests.each import each
from tests.values import record_from

EVERY = 180.0
START = 1_700_000_000


def record(number, at=None, type_name="A"):
    """Return the record of the run of tick `at` that took this many."""
    return record_from(started_at=isoformat(START + EVERY * at), by_type={type_name: {"taken": number}})


def a_window(*records, until=0.0):
    """Return how many events of type A arrive in a window, None if that is not known."""
    found = arrivals_of(records, ["A"], EVERY, until)
    return found and pytest.approx(found["A"] * EVERY)


@each(
    ("records", "expected"),
    [
        ([record(100, 2), record(200, 1), record(60, 0)], 150),
        ([record(60, 2), record(60, 1), record(1200, 0)], 60),  # the first had gathered for nobody knows how long
        ([], None),
        ([record(500, 0)], None),
        ([record(500, 0.1), record(500, 0)], None),  # less than a window tells nothing
        ([record(100, 4), record(200, 0)], 25),  # ticks with nothing to do leave no record
        ([record(40, 1), record(60, 0.5), record(110, 0)], 100),  # one was started by hand
        ([record(5, 1, "FORMER"), record(5, 0, "FORMER")], 0),
    ],
)
def test_it_is_what_runs_took_since_the_first_of_them(records, expected):
    """Over the time since that."""
    assert a_window(*records) == expected


def test_ticks_since_the_last_record_are_windows_too():
    """Nothing has come since: 100 in what by now are ten windows; a tick before the last record changes nothing."""
    records = [record(100, 1), record(200, 0)]

    assert a_window(*records, until=START + 10 * EVERY) == 10
    assert a_window(*records, until=START) == 100
