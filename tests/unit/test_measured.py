"""The expected calls by measured ones: of earlier runs, of the open run, and which of the two counts."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from rlm.core.endpoint import ANSWER_SLACK_SECONDS, EventType
from rlm.core.expected import (
    HIGHEST_ERROR_RATE,
    MEASURED_CALLS,
    MEASURED_NOW,
    NEWEST_DURATIONS,
    NOTHING,
    Completed,
    Expected,
    Measured,
    call_seconds,
    expect,
    merge_run,
    needed_seconds,
    quantile,
)
from tests.each import each

TYPE = EventType("T", priority=1, processing_seconds=2.0, endpoints=())
PAIR, OTHER = ("T", "one"), ("T", "two")
USUAL = Measured((500.0,) * MEASURED_CALLS, MEASURED_CALLS)

DURATIONS = st.lists(st.floats(0.1, 1e5), max_size=60)


def follow(seconds, kept=NOTHING, errors=0):
    """Return what is expected of the next call after these durations in seconds in the open run."""
    newest = tuple(one * 1000 for one in seconds)[-NEWEST_DURATIONS:]
    return expect(TYPE, kept, Measured(newest, len(seconds), errors))


# -- quantiles


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50).map(sorted), st.floats(0.01, 1.0))
def test_a_quantile_is_one_of_the_values_with_its_share_at_or_below(values, share):
    """Nearest rank: the smallest value at or below which `share` of them lie."""
    found = quantile(values, share)

    assert found == next(one for rank, one in enumerate(values, 1) if rank >= math.ceil(share * len(values)))


# -- what is kept


def test_a_run_adds_its_durations_and_halves_what_was_counted_before():
    """The newest durations are kept in their order; failures of long ago fade."""
    kept = Measured((1.0, 2.0), completed=2, errors=4).merge([3.0], errors=1)
    assert kept == Measured((1.0, 2.0, 3.0), completed=2, errors=3)

    assert kept.merge([], errors=0).merge([], errors=0) == Measured((1.0, 2.0, 3.0), completed=0.5, errors=0.75)


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


@given(DURATIONS, st.integers(0, 100))
def test_what_is_expected_is_always_sound(milliseconds, errors):
    """Whatever was measured: a call needs at least what it takes, and fails at the most so often."""
    found = expect(TYPE, NOTHING.merge(milliseconds, errors))

    assert found is None or (0 < found.seconds <= found.needed_seconds and 0 <= found.error_rate <= HIGHEST_ERROR_RATE)


# -- what the open run lets expect


def test_the_newest_calls_decide():
    """Slowly a type's calls become something else; the median of the newest follows."""
    seconds = [1.0] * 20 + [1.5] * NEWEST_DURATIONS

    assert follow(seconds[:-NEWEST_DURATIONS]) == Expected(1.0, 1.0)
    assert follow(seconds) == Expected(1.5, 1.5)


@each("kept", [NOTHING, USUAL])
@each("before", [0, 1, 2, MEASURED_NOW, 30])
def test_a_single_slow_call_is_not_noticed(kept, before):
    """Wherever it comes among calls that are as usual."""
    usual = 0.5 if kept is USUAL else 2.0

    for after in range(12):
        assert follow([usual] * before + [20 * usual] + [usual] * after, kept) in {None, Expected(usual, usual)}


def test_the_run_alone_tells_how_many_fail_once_it_has_enough_calls():
    """Until then its calls count with those of earlier runs, if there were some."""
    assert follow([], errors=3) is None
    assert follow([0.5] * 4, USUAL, errors=1) == Expected(0.5, 0.5, 1 / (MEASURED_CALLS + 5))
    assert follow([0.5] * 15, USUAL, errors=5) == Expected(0.5, 0.5, 0.25)
    assert follow([0.5] * MEASURED_CALLS, Measured((500.0,) * 40, 20, 20)) == Expected(0.5, 0.5, 0.0)
    assert follow([], errors=MEASURED_CALLS) == Expected(2.0, 2.0, HIGHEST_ERROR_RATE)


# -- what everybody goes by


def test_what_is_measured_goes_before_what_is_configured():
    """By type and endpoint; a call needs a moment for its way in either case."""
    expected = {PAIR: Expected(0.5, 0.75)}

    assert call_seconds(TYPE, "one", expected) == 0.5
    assert call_seconds(TYPE, "two", expected) == 2.0
    assert needed_seconds(TYPE, "one", expected) == 0.75 + ANSWER_SLACK_SECONDS
    assert needed_seconds(TYPE, "two", expected) == 2.0 + ANSWER_SLACK_SECONDS
