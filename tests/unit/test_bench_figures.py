"""The figures by which a contender is judged."""

from __future__ import annotations

from benchmarks.harness.figures import measure
from rlm.sandbox.mockapi import Arrival
from rlm.settings import load_settings

#: Its calls take a second; the window is 180 s.
ENDPOINT = "open_order_api"


def arrival(event_id, at, *, status=200, accepted=True):
    return Arrival(at, ENDPOINT, event_id, 1, None, status, accepted)


def judge(events, *arrivals):
    return measure(arrivals, set(events), load_settings(None, {}), started_at=100.0)


def test_the_makespan_is_from_the_first_call_to_the_last_good_answer():
    """An answer comes a processing time after its call; what came before the first call is in the total only."""
    figures = judge("ab", arrival("a", 101.0), arrival("b", 150.0))

    assert (figures.first_call, figures.makespan, figures.total) == (1.0, 50.0, 51.0)
    assert (figures.in_window, figures.refused, figures.repeats, figures.undone) == (2, 0, 0, 0)


def test_a_refused_call_counts_and_its_event_may_be_done_later():
    """A refusal is no repeat."""
    figures = judge("a", arrival("a", 101.0, status=429, accepted=False), arrival("a", 110.0))

    assert (figures.refused, figures.repeats, figures.undone, figures.makespan) == (1, 0, 0, 10.0)


def test_an_event_done_after_the_window_is_not_in_it():
    """The window ends 180 s after the start, and the answer must be there by then."""
    figures = judge("ab", arrival("a", 279.0), arrival("b", 279.5))

    assert (figures.in_window, figures.undone) == (1, 0)


def test_an_event_that_never_came_or_never_got_a_good_answer_is_undone():
    """An answer that is an error settles nothing."""
    figures = judge("abc", arrival("a", 101.0), arrival("b", 102.0, status=500))

    assert (figures.in_window, figures.undone) == (1, 2)


def test_a_second_admitted_call_is_a_repeat_and_what_is_not_asked_for_is_not_counted():
    """The first good answer settles an event; strangers settle nothing."""
    figures = judge("a", arrival("a", 101.0), arrival("a", 120.0), arrival("x", 130.0))

    assert (figures.repeats, figures.in_window, figures.makespan) == (1, 1, 1.0)


def test_no_call_at_all_is_no_time():
    """Nothing is divided by nothing."""
    figures = judge("a")

    assert (figures.makespan, figures.first_call, figures.undone) == (0.0, 0.0, 1)
