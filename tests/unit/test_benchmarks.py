"""The benchmarks' own schedule, bound and figures, which share nothing with RLM, and the work that rivals get."""

from __future__ import annotations

import pytest

from benchmarks.harness.api import Call
from benchmarks.harness.figures import Figures, measure
from benchmarks.harness.schedule import best_schedule, lower_bound
from benchmarks.harness.work import LOADS, EventType, Work, main_job
from benchmarks.rivals.programs import Program


def work(*counts, lanes=100, guard=0.0, seconds=(2.0, 0.8)):
    types = (
        EventType(f"T{place}", takes, (f"t{place}",), count)
        for place, (takes, count) in enumerate(zip(seconds, counts, strict=False))
    )
    return Work(tuple(types), 30, 60.0, guard, 180.0, lanes, 10.0)


def test_what_fits_into_fresh_windows_takes_as_long_as_one_call():
    assert best_schedule(work(30, guard=0.5)) == 2.0
    assert lower_bound(work(30)) == 2.0


def test_a_full_window_opens_a_period_and_the_guard_later():
    assert best_schedule(work(31, guard=0.5)) == 62.5
    assert lower_bound(work(31, guard=0.5)) == 62.0  # the bound knows no guard


def test_few_lanes_are_worked_off_one_call_after_the_other():
    assert best_schedule(work(10, lanes=3)) == 8.0
    assert lower_bound(work(10, lanes=3)) == pytest.approx(20 / 3)


def test_the_longest_calls_go_first_where_that_ends_sooner():
    assert best_schedule(work(3, 1, lanes=2, seconds=(1.0, 3.0))) == 3.0


def test_nothing_ends_at_once():
    assert best_schedule(work(0)) == lower_bound(work(0)) == 0.0


@pytest.mark.parametrize("load", LOADS)
def test_no_schedule_beats_the_bound(load):
    assert lower_bound(main_job(load, 10)) <= best_schedule(main_job(load, 10)._replace(guard=0.0))


def test_figures_are_the_servers_own_account():
    """Calls of two seconds: one refused and repeated well, one answered after the window, one sent twice."""
    calls = [
        Call(101.0, "t0", "a", admitted=True),
        Call(102.0, "t0", "b", admitted=False),
        Call(110.0, "t0", "b", admitted=True),
        Call(120.0, "t0", "a", admitted=True),
        Call(279.0, "t0", "c", admitted=True),
    ]

    figures = measure(calls, work(4), started_at=100.0, forecast=171.0)

    assert figures == Figures(makespan=180.0, first_call=1.0, refused=1, repeats=1, late=2, error=0.05)


def test_no_call_at_all_takes_no_time():
    assert measure([], work(1), started_at=100.0, forecast=5.0) == Figures(0.0, 0.0, 0, 0, 1, None)


@pytest.mark.parametrize(("speed", "period", "guarded"), [(1, 60.0, 60.5), (10, 6.0, 6.05)])
def test_a_guarded_rival_pays_as_much_as_rlm_at_every_speed(speed, period, guarded):
    """Padding against jitter comes on top as it is."""

    def period_of(**options):
        job = Program("rival", list, **options).job(main_job("full", speed), "", "")
        (seconds,) = {address["seconds"] for addresses in job["types"].values() for address in addresses}
        return seconds

    assert period_of() == period
    assert period_of(guarded=True) == pytest.approx(guarded)
    assert period_of(guarded=True, pad_seconds=0.4) == pytest.approx(guarded + 0.4)


@pytest.mark.parametrize(("load", "lanes"), [("half", 5), ("one-type", 25)])
def test_lanes_of_their_own_are_divided_among_endpoints_that_have_events(load, lanes):
    assert Program("rival", list).job(main_job(load, 10), "", "")["lanes_each"] == lanes
