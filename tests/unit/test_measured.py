"""The expected calls by measured ones: of earlier runs, of the open run, and which of the two counts."""

from __future__ import annotations

from rlm.core.endpoint import EventType
from rlm.core.expected import (
    NEWEST_DURATIONS,
    NOTHING,
    Completed,
    Expected,
    Measured,
    expect,
    merge_run,
)

TYPE = EventType("T", priority=1, processing_seconds=2.0, endpoints=())
PAIR, OTHER = ("T", "one"), ("T", "two")


def follow(seconds, kept=NOTHING, errors=0):
    """Return what is expected of the next call after these durations in seconds in the open run."""
    newest = tuple(one * 1000 for one in seconds)[-NEWEST_DURATIONS:]
    return expect(TYPE, kept, Measured(newest, len(seconds), errors))


# -- quantiles


# -- what is kept


def test_a_run_is_merged_by_type_and_endpoint():
    """Also where all calls failed; who was not called is not in it."""
    kept = {PAIR: Measured((1.0,), 1, 0), ("T", "idle"): Measured((9.0,), 1, 0)}
    completed = [Completed(*PAIR, 2.0), Completed("U", "one", 5.0), Completed(*PAIR, 3.0)]

    assert merge_run(kept, completed, {OTHER: 2, PAIR: 1}) == {
        PAIR: Measured((1.0, 2.0, 3.0), 2.5, 1),
        OTHER: Measured((), 0, 2),
        ("U", "one"): Measured((5.0,), 1, 0),
    }


# -- what earlier runs let expect


def test_a_call_takes_the_median_and_needs_what_nineteen_of_twenty_take():
    """In seconds."""
    kept = Measured(tuple(float(one) for one in range(100, 0, -1)), completed=100, errors=25)

    assert expect(TYPE, kept) == Expected(0.050, 0.095, 0.2)


# -- what the open run lets expect


def test_the_newest_calls_decide():
    """Slowly a type's calls become something else; the median of the newest follows."""
    seconds = [1.0] * 20 + [1.5] * NEWEST_DURATIONS

    assert follow(seconds[:-NEWEST_DURATIONS]) == Expected(1.0, 1.0)
    assert follow(seconds) == Expected(1.5, 1.5)


# -- what everybody goes by
