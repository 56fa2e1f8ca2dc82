"""The expected calls by measured ones: of earlier runs, of the open run, and which of the two counts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.core.endpoint import ANSWER_SLACK_SECONDS, EventType
from rlm.core.expected import (
    CHANGED_CALLS,
    CHANGED_TIMES,
    HIGHEST_ERROR_RATE,
    KEPT_DURATIONS,
    MEASURED_CALLS,
    MEASURED_NOW,
    NEWEST_DURATIONS,
    Completed,
    Expected,
    Following,
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
NOTHING = Measured()
USUAL = Measured((500.0,) * MEASURED_CALLS, MEASURED_CALLS)

DURATIONS = st.lists(st.floats(0.1, 1e5), max_size=60)


def follow(seconds, kept=NOTHING, errors=0):
    """Follow calls of an open run with these durations in seconds; return what is expected of the next."""
    following = Following(TYPE, kept)
    for one in seconds:
        following.complete(one * 1000)
    following.fail(errors)
    return following.expected


# -- quantiles


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50).map(sorted), st.floats(0.01, 1.0))
def test_a_quantile_is_one_of_the_values_with_its_share_at_or_below(values, share):
    """Nearest rank: the smallest value at or below which `share` of them lie."""
    found = quantile(values, share)

    assert found == next(one for rank, one in enumerate(values, 1) if rank >= math.ceil(share * len(values)))


def test_quantiles_of_a_few():
    """Examples that can be checked in the head."""
    assert quantile([], 0.5) == 0
    assert [quantile(list(range(1, 101)), share) for share in (0.5, 0.95, 1.0)] == [50, 95, 100]
    assert quantile([1, 2], 0.5) == 1
    assert quantile([1, 2, 3], 0.5) == 2


# -- what is kept


def test_a_run_adds_its_durations_and_halves_what_was_counted_before():
    """The newest durations are kept in their order; failures of long ago fade."""
    kept = Measured((1.0, 2.0), completed=2, errors=4).merge([3.0], errors=1)
    assert kept == Measured((1.0, 2.0, 3.0), completed=2, errors=3)

    assert kept.merge([], errors=0).merge([], errors=0) == Measured((1.0, 2.0, 3.0), completed=0.5, errors=0.75)


def test_no_more_durations_are_kept_than_that():
    """However many runs there were, and however many calls there are in one."""
    kept = Measured(tuple(map(float, range(KEPT_DURATIONS)))).merge([-1.0, -2.0], errors=0)
    assert len(kept.milliseconds) == KEPT_DURATIONS
    assert (kept.milliseconds[0], kept.milliseconds[-2:]) == (2.0, (-1.0, -2.0))

    assert NOTHING.merge([1.0] * 1000, errors=0) == Measured((1.0,) * KEPT_DURATIONS, completed=1000)


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


def test_too_few_calls_tell_nothing():
    """The configured time holds."""
    assert expect(TYPE, NOTHING) is None
    assert expect(TYPE, Measured((100.0,) * (MEASURED_CALLS - 1), MEASURED_CALLS - 1)) is None
    assert expect(TYPE, Measured((100.0,) * MEASURED_CALLS, MEASURED_CALLS)) == Expected(0.1, 0.1)


def test_a_call_takes_the_median_and_needs_what_nineteen_of_twenty_take():
    """In seconds."""
    kept = Measured(tuple(float(one) for one in range(100, 0, -1)), completed=100, errors=25)

    assert expect(TYPE, kept) == Expected(0.050, 0.095, 0.2)


def test_an_endpoint_that_only_fails_is_expected_to_take_what_is_configured():
    """How many fail is known, how long a call takes is not; more than half is the circuit breaker's business."""
    assert expect(TYPE, Measured((), 0, MEASURED_CALLS)) == Expected(2.0, 2.0, HIGHEST_ERROR_RATE)
    assert expect(TYPE, Measured((1.0,) * 15, 15, 5)) == Expected(2.0, 2.0, 0.25)


@given(DURATIONS, st.integers(0, 100))
def test_what_is_expected_is_always_sound(milliseconds, errors):
    """Whatever was measured: a call needs at least what it takes, and fails at the most so often."""
    found = expect(TYPE, NOTHING.merge(milliseconds, errors))

    assert found is None or (0 < found.seconds <= found.needed_seconds and 0 <= found.error_rate <= HIGHEST_ERROR_RATE)


# -- what the open run lets expect


def test_a_few_calls_that_are_as_usual_change_nothing():
    """What is kept, or configured, holds until the run has completed enough of its own."""
    few = MEASURED_NOW - 1

    assert follow([]) is None
    assert follow([2.4] * few) is None
    assert follow([0.6] * few, USUAL) == Expected(0.5, 0.5)
    assert follow([0.6] * MEASURED_NOW, USUAL) == Expected(0.6, 0.6)
    assert follow([2.4] * MEASURED_NOW) == Expected(2.4, 2.4)


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


@each("times", [4.0, 0.25])
@each("kept", [NOTHING, USUAL])
@each("before", [0, 1, 2, MEASURED_NOW, 30])
def test_a_change_is_noticed_by_the_second_call(kept, before, times):
    """Four times slower, or faster, from the first call of the run on or in its middle; and back again."""
    usual = 0.5 if kept is USUAL else 2.0
    changed = [usual] * before + [times * usual] * CHANGED_CALLS

    assert follow(changed, kept) == Expected(times * usual, times * usual)
    assert follow([*changed, *changed, *[usual] * CHANGED_CALLS], kept) == Expected(usual, usual)


@given(st.lists(st.floats(1.0, CHANGED_TIMES), min_size=MEASURED_NOW, max_size=40))
def test_calls_that_vary_less_than_a_change_are_never_taken_for_one(seconds):
    """The median of the newest is expected, and as much time is needed as all but one of them took."""
    newest = sorted(seconds[-NEWEST_DURATIONS:])

    found = follow(seconds)

    assert found.seconds == pytest.approx(newest[math.ceil(len(newest) / 2) - 1])
    assert found.needed_seconds == pytest.approx(newest[-2])


def test_as_much_time_is_needed_as_in_earlier_runs_until_something_changes():
    """One call in ten was slow before: ten quick ones do not tell that none will be; slow or quick ones in a row do."""
    kept = Measured((*[1000.0] * 18, 5000.0, 5000.0), 20)

    assert follow([1.0] * 10, kept) == Expected(1.0, 5.0)
    assert follow([1.0] * 10 + [0.3] * CHANGED_CALLS, kept) == Expected(0.3, 0.3)


def test_the_run_alone_tells_how_many_fail_once_it_has_enough_calls():
    """Until then its calls count with those of earlier runs, if there were some."""
    assert follow([], errors=3) is None
    assert follow([0.5] * 4, USUAL, errors=1) == Expected(0.5, 0.5, 1 / (MEASURED_CALLS + 5))
    assert follow([0.5] * 15, USUAL, errors=5) == Expected(0.5, 0.5, 0.25)
    assert follow([0.5] * MEASURED_CALLS, Measured((500.0,) * 40, 20, 20)) == Expected(0.5, 0.5, 0.0)
    assert follow([], errors=MEASURED_CALLS) == Expected(2.0, 2.0, HIGHEST_ERROR_RATE)


@given(DURATIONS, st.integers(0, 100), DURATIONS, st.integers(0, 100))
def test_what_is_expected_as_the_run_goes_is_always_sound(kept, kept_errors, milliseconds, errors):
    """Whatever was measured before and is now."""
    found = follow([one / 1000 for one in milliseconds], NOTHING.merge(kept, kept_errors), errors)

    assert found is None or (0 < found.seconds <= found.needed_seconds and 0 <= found.error_rate <= HIGHEST_ERROR_RATE)


# -- what everybody goes by


def test_what_is_measured_goes_before_what_is_configured():
    """By type and endpoint; a call needs a moment for its way in either case."""
    expected = {PAIR: Expected(0.5, 0.75)}

    assert call_seconds(TYPE, "one", expected) == 0.5
    assert call_seconds(TYPE, "two", expected) == 2.0
    assert needed_seconds(TYPE, "one", expected) == 0.75 + ANSWER_SLACK_SECONDS
    assert needed_seconds(TYPE, "two", expected) == 2.0 + ANSWER_SLACK_SECONDS
