"""How leftovers develop, window after window."""

from __future__ import annotations

import re

import pytest

from rlm.endpoint import Budget, Endpoint, EventType, Limit
from rlm.plan import Capacity, Horizon, Window
from rlm.plan.carry import carried, course_of
from rlm.plan.course import Course, Start
from rlm.plan.outlook import Ahead, Outlook, look_ahead

TYPE = "A"
EVERY = 180.0
GUARD = 0.5
#: What a call takes, in ticks.
TAKES = 1_000_000


def kind(limit="30/minute", number=4, budget=None):
    endpoints = (
        Endpoint(f"a{index}", f"http://h/a{index}", Limit.parse(limit), 10, budget=budget) for index in range(number)
    )
    return EventType(TYPE, 5, 1.0, tuple(endpoints))


TYPES = (kind(),)


def outlook(backlog, arrivals, number, types=TYPES, windows=None, workers=None, cycle=0.0):
    """Plan `number` windows of three minutes for one type."""
    capacity, horizon = Capacity(0, 20, 5), Horizon(EVERY, 0.75 * EVERY, GUARD)

    def plan(events, windows):
        return course_of(events, types, windows, capacity, horizon, workers=workers)

    def carry(windows, starts):
        return carried(windows, starts, types, EVERY, GUARD)

    return look_ahead({TYPE: backlog}, {TYPE: arrivals}, windows or {}, number, plan, carry, cycle)


def made(*left, arrivals=0.0, cycle=0.0):
    """An outlook with these leftovers of one type."""
    events = [number + 100 for number in left]
    windows = (Ahead({TYPE: waiting}, {TYPE: number}) for waiting, number in zip(events, left, strict=True))
    return Outlook(tuple(windows), {TYPE: arrivals}, cycle)


def test_leftovers_drain_where_more_fits_than_arrives():
    """500 wait, 360 fit, 300 arrive: 60 fewer are left over with each window."""
    found = outlook(500, 300, 10)

    assert [one.leftover for one in found.windows[:4]] == [140, 80, 20, 0]
    assert found.drained_in == 4
    assert found.verdict == "drained in window 4"
    assert found.growth == 0


def test_leftovers_grow_where_more_arrives_than_fits():
    """In the long run an endpoint lets 30 calls through each 60.5 s, which is 357 in a window for four of them."""
    found = outlook(500, 400, 1000)

    assert found.drained_in is None
    assert found.growth == pytest.approx(400 - 4 * 30 * EVERY / 60.5, abs=1)
    assert found.verdict == f"never: growing by {round(found.growth)} events a window"
    assert found.growth_of(TYPE) == found.growth


def test_it_stops_early_once_nothing_new_comes():
    """A thousand windows were asked for; a trend that keeps is told sooner, and so is a queue that is done."""
    assert len(outlook(500, 400, 1000).windows) < 200
    assert len(outlook(500, 0, 1000).windows) == 2


def test_it_stops_early_where_it_takes_too_long_to_drain():
    """What takes thousands of windows is told from the trend; what is done within those asked for is planned out."""
    soon, late = outlook(6_000, 300, 1000), outlook(1_000_000, 300, 1000)

    assert soon.drained_in == pytest.approx(101, abs=2)
    assert len(late.windows) < 200
    assert re.search(r"^not by window 1\d\d: 99\d,\d+ are left over then, 57 fewer", late.verdict)


def test_a_trend_is_measured_over_whole_periods_of_the_longest_limit():
    """1,000 an hour are 50 a window, though they go in the first seven windows of each twenty."""
    types = (kind("150 per 180 second; 1000/hour", number=1),)

    found = outlook(300, 120, 100, types=types, cycle=3600.5 / EVERY)

    assert found.growth == pytest.approx(120 - 1000 * EVERY / 3600.5, abs=2)


def test_a_limit_by_the_day_is_waited_for():
    """All of a day's calls are made in its first windows; that nothing is done afterwards is no trend."""
    types = (kind("2000/day", number=1),)

    found = outlook(3_000, 2, 1000, types=types, cycle=(86_400 + GUARD) / EVERY)

    assert [one.leftover for one in found.windows[10:300:100]] == [1_020, 1_220, 1_420]
    assert found.drained_in == 481


def test_less_than_a_period_is_no_reason_to_say_never():
    """What grows in an hour of a limit by the day may drain in the next."""
    assert made(300, 320, 340, 360, cycle=480.0).verdict == "not by window 4: growing by 20 events a window"
    assert made(300, 300, 300, 300, cycle=480.0).verdict == "not by window 4: stays at about 300"


def test_a_single_window_is_told_from_too():
    """What arrives against what was done."""
    found = outlook(500, 400, 1)

    assert found.growth == 40
    assert found.drained_in is None


def test_a_first_window_with_little_to_do_is_not_taken_for_the_rule():
    """Ten wait, 400 arrive: nothing is left over at first, and then more with each window."""
    found = outlook(10, 400, 6)

    assert [one.leftover for one in found.windows] == [0, 40, 80, 120, 160, 200]
    assert found.drained_in is None
    assert found.growth == 40


def test_windows_carry_over():
    """Slots taken late in a window are not back at the start of the next: a period has to pass."""
    full = {f"a{index}": Window((0.0,) * 30) for index in range(4)}

    fresh, late = outlook(360, 360, 2), outlook(360, 360, 2, windows=full)

    assert fresh.windows[0].leftover == 0
    assert late.windows[0].leftover == 120
    assert late.windows[1].leftover == 120


def test_the_windows_are_those_of_one_long_run():
    """Window after window admits what a single run of the same length does: nothing is forgotten, nothing doubled."""
    types = (kind("7 per 50 second; 40 per 400 second", number=2),)
    capacity = Capacity(0, 20, 5)

    found = outlook(10_000, 0, 10, types=types, workers=20)
    long = course_of({TYPE: 10_000}, types, {}, capacity, Horizon(10 * EVERY, 10 * EVERY, GUARD), workers=20)

    # A call that a deadline keeps from being begun is begun at the next window's start: a second a window is lost.
    done = 10_000 - found.windows[-1].leftover
    assert done <= 10_000 - long.leftover
    assert done >= 0.98 * (10_000 - long.leftover)


def test_fractions_arrive_as_often_as_they_come_to_a_whole_event():
    """A third of an event a window is one in three windows."""
    found = outlook(0, 1 / 3, 12)

    assert sum(one.events[TYPE] for one in found.windows) == 4
    assert max(one.events[TYPE] for one in found.windows) == 1


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        ((0, 0, 0), "nothing is left over"),
        ((400, 250, 100, 0), "drained in window 4"),
        ((300, 300, 300, 300), "never: stays at about 300"),
        ((100, 101, 102, 103), "never: growing by 1 event a window"),
        (
            (400, 300, 200, 100),
            "not by window 4: 100 are left over then, 100 fewer with each window; at this rate in window 5",
        ),
        (
            (90, 0, 40, 0, 30, 0),
            "drained in window 2; now and then up to 40 are left over again, for one of the next windows",
        ),
    ],
)
def test_the_verdict_in_words(left, expected):
    """It is of the last windows: the first begin with what has piled up."""
    assert made(*left).verdict == expected


def test_the_document_has_a_row_a_window():
    """By type, too."""
    found = made(30, 0).as_json()

    assert found["windows"][0] == {
        "window": 1,
        "events": 130,
        "completed": 100,
        "leftover": 30,
        "by_type": {TYPE: {"events": 130, "completed": 100, "leftover": 30}},
    }
    assert (found["drained_in"], found["growth_per_window"]) == (2, 0)


def test_what_is_carried_counts_from_the_next_start():
    """A call 170 s into a window of 180 s is 10 s old at the start of the next; one that counts no more is dropped."""
    calls = [
        Start(0, TYPE, "a0", 2, TAKES),
        Start(150_000_000, TYPE, "a0", 3, TAKES),
        Start(170_000_000, TYPE, "a0", 1, TAKES),
    ]

    found = carried({"a0": Window((5.0,), rest_seconds=200.0, suspect=True)}, calls, (kind(number=2),), EVERY, GUARD)

    assert found["a0"] == Window((10.0, 30.0, 30.0, 30.0), rest_seconds=20.0, suspect=True)
    assert found["a1"] == Window()


def test_a_call_counts_for_the_budget_of_its_endpoint():
    """Calls at two endpoints that hang on one account come together in its window."""
    account = Budget("account", Limit.parse("100/minute"))
    calls = [Start(170_000_000, TYPE, "a0", 2, TAKES), Start(175_000_000, TYPE, "a1", 1, TAKES)]

    found = carried({}, calls, (kind(number=2, budget=account),), EVERY, GUARD)

    assert found["account"] == Window((5.0, 10.0, 10.0))


def test_what_no_rule_counts_any_more_is_not_carried():
    """The newest calls as many as a rule allows keep a window shut; older ones add nothing."""
    calls = [Start(at * 1_000_000, TYPE, "a0", 1, TAKES) for at in range(130, 180)]

    found = carried({}, calls, (kind(number=1),), EVERY, GUARD)

    assert found["a0"].ages == tuple(float(age) for age in range(1, 31))


def test_nothing_to_do_is_nothing_left_over():
    """No event waits, none arrives."""
    found = look_ahead({TYPE: 0}, {TYPE: 0.0}, {}, 5, lambda *_: Course(left={TYPE: 0}), lambda *_: {})

    assert len(found.windows) == 1
    assert found.verdict == "nothing is left over"
