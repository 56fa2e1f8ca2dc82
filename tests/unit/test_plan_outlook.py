"""The development of leftovers, window by window."""

from __future__ import annotations

import re

import pytest

from rlm.core.endpoint import Budget, Endpoint, EventType, Limit
from rlm.core.window import WindowState
from rlm.plan import carried, course_of, look_ahead
from rlm.plan.outlook import Ahead, LongRun, Outlook
from rlm.plan.simulate import Course, Start
from rlm.plan.situation import Capacity, Horizon, Workload
from tests.each import each

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


def outlook(backlog, arrivals, number, types=TYPES, windows=None, workers=None):
    """Plan `number` windows of three minutes for one type."""
    capacity, horizon = Capacity(0, 20, 5), Horizon(EVERY, 0.75 * EVERY, GUARD)

    def plan(workload):
        return course_of(workload, capacity.exactly(workers), horizon)

    def carry(workload, starts):
        return carried(workload, starts, EVERY, GUARD)

    workload = Workload({TYPE: backlog}, types, windows or {})
    return look_ahead(workload, {TYPE: arrivals}, number, plan, carry, LongRun.of(types, (), EVERY, GUARD))


def made(*left, arrivals=0.0, most=float("inf"), cycle=0.0):
    """An outlook with these leftovers of one type, of which the limits let `most` through in a window."""
    events = [number + 100 for number in left]
    windows = (Ahead({TYPE: waiting}, {TYPE: number}) for waiting, number in zip(events, left, strict=True))
    return Outlook(tuple(windows), {TYPE: arrivals}, LongRun({TYPE: most}, most, cycle))


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

    found = outlook(300, 120, 100, types=types)

    assert found.growth == pytest.approx(120 - 1000 * EVERY / 3600.5, abs=2)


def test_a_limit_by_the_day_is_waited_for():
    """All of a day's calls are made in its first windows; that nothing is done afterwards is no trend."""
    types = (kind("2000/day", number=1),)

    found = outlook(3_000, 2, 1000, types=types)

    assert [one.leftover for one in found.windows[10:300:100]] == [1_020, 1_220, 1_420]
    assert found.drained_in == 481


def test_less_than_a_period_is_no_reason_to_say_never():
    """What grows in an hour of a limit by the day may drain in the next, and what shrinks may not."""
    grows = "not by window 4: 360 are left over then, growing by 20 events a window so far"
    shrinks = "not by window 4: 240 are left over then, 20 fewer with each window so far"

    assert made(300, 320, 340, 360, cycle=480.0).verdict == grows
    assert made(300, 280, 260, 240, cycle=480.0).verdict == shrinks
    assert made(0, 0, 0, cycle=480.0, arrivals=1.0).verdict == "nothing is left over by window 3"


@each(("limit", "number", "arrivals"), [("25/hour", 4, 15), ("100/day", 1, 1), ("30/minute; 300/day", 1, 30)])
@each("windows", [1, 6, 9, 20, 100])
def test_what_must_grow_is_never_called_drained(limit, number, arrivals, windows):
    """At first there are the slots of a whole period; what arrives is more than comes back of them."""
    found = outlook(90, arrivals, windows, types=(kind(limit, number),))

    assert found.drained_in is None
    assert "drained" not in found.verdict
    assert found.growth >= 0.5


@each(("backlog", "arrivals"), [(500, 360), (400, 358), (0, 358)])
@each("windows", [2, 20, 45, 300])
def test_few_windows_and_many_give_the_same_answer(backlog, arrivals, windows):
    """357 come through in the long run, though for 39 windows it looks like 360."""
    found = outlook(backlog, arrivals, windows)

    assert found.drained_in is None
    assert found.growth == pytest.approx(arrivals - 357.02, abs=0.5)


@pytest.mark.parametrize(("windows", "drains"), [(15, False), (30, True), (200, True)])
def test_what_comes_again_each_hour_and_goes_is_drained(windows, drains):
    """30 take most of the hour's 40 slots at once: what comes later waits for the next hour, and 20 an hour are few."""
    found = outlook(30, 1, windows, types=(kind("40/hour", number=1),))

    assert (found.drained_in == 1) is drains
    assert found.verdict.startswith("drained in window 1; now and then up to" if drains else "not by window 15")


def test_an_end_with_leftovers_is_not_drained():
    """Whether they go again, nobody has seen."""
    assert made(40, 0, 0, 0, 5, 20).drained_in is None
    assert made(*[0, 0, 30] * 50).drained_in == 1


def test_a_type_that_grows_is_not_drained_by_another_that_shrinks():
    """A hundred fewer of one hide ten more of the other."""
    windows = [Ahead({"A": 500 - 100 * at, "B": 10 * at}, {"A": 400 - 100 * at, "B": 10 + 10 * at}) for at in range(4)]

    found = Outlook(tuple(windows), {"A": 0.0, "B": 110.0})

    assert found.verdict == "not by window 4: 140 are left over then, 90 fewer with each window so far"


def test_the_end_is_told_no_sooner_than_the_limits_allow():
    """60 fewer with each window for now, 40 in the long run; under a limit by the hour whole hours are counted."""
    assert made(400, 340, 280, 220, arrivals=300, most=340.0).verdict.endswith("none by about window 10")
    assert made(*range(900, 100, -20), cycle=20.0).verdict.endswith("none by about window 60")


def test_what_the_limits_let_through_in_the_long_run():
    """The tightest rule of each endpoint, a budget once for all that hang on it, what is shut not at all."""
    account = Budget("account", Limit.parse("30/minute"))
    shared = EventType("B", 1, 1.0, (Endpoint("b", "http://h/b", Limit.parse("30/minute"), 10, budget=account),))
    types = (kind("30/minute; 600/hour", 2, account), shared)

    found = LongRun.of(types, (), 3600.0, 0.0)

    assert (found.by_type, found.together, found.cycle) == ({"A": 1200.0, "B": 1800.0}, 1800.0, 1.0)
    assert LongRun.of(types, {"a0"}, 3600.0, 0.0).by_type == {"A": 600.0, "B": 1800.0}
    assert LongRun.of(types, {"account"}, 3600.0, 0.0).together == 0.0
    assert found.surplus({"A": 1000.0, "B": 1000.0}) == 200.0
    assert found.surplus({"A": 1300.0, "B": 10.0}) == 100.0


def test_a_single_window_is_told_from_too():
    """What arrives against what was done."""
    found = outlook(500, 400, 1)

    assert found.growth == pytest.approx(43, abs=0.1)
    assert found.drained_in is None


def test_a_first_window_with_little_to_do_is_not_taken_for_the_rule():
    """Ten wait, 400 arrive: nothing is left over at first, and then more with each window."""
    found = outlook(10, 400, 6)

    assert [one.leftover for one in found.windows] == [0, 40, 80, 120, 160, 200]
    assert found.drained_in is None
    assert found.growth == pytest.approx(43, abs=0.1)


def test_windows_carry_over():
    """Slots taken late in a window are not back at the start of the next: a period has to pass."""
    full = {f"a{index}": WindowState(ages=(0.0,) * 30) for index in range(4)}

    fresh, late = outlook(360, 360, 2), outlook(360, 360, 2, windows=full)

    assert fresh.windows[0].leftover == 0
    assert late.windows[0].leftover == 120
    assert late.windows[1].leftover == 120


def test_the_windows_are_those_of_one_long_run():
    """Window after window admits what a single run of the same length does: nothing is forgotten, nothing doubled."""
    types = (kind("7 per 50 second; 40 per 400 second", number=2),)
    capacity = Capacity(0, 20, 5)

    found = outlook(10_000, 0, 10, types=types, workers=20)
    long = course_of(Workload({TYPE: 10_000}, types), capacity.exactly(20), Horizon(10 * EVERY, 10 * EVERY, GUARD))

    # A call that a deadline keeps from being begun is begun at the next window's start: a second a window is lost.
    done = 10_000 - found.windows[-1].leftover
    assert done <= 10_000 - long.leftover
    assert done >= 0.98 * (10_000 - long.leftover)


def test_fractions_arrive_as_often_as_they_come_to_a_whole_event():
    """A third of an event a window is one in three windows."""
    found = outlook(0, 1 / 3, 12)

    assert sum(one.events[TYPE] for one in found.windows) == 4
    assert max(one.events[TYPE] for one in found.windows) == 1


@each(
    ("left", "expected"),
    [
        ((0, 0, 0), "nothing is left over"),
        ((400, 250, 100, 0), "drained in window 4"),
        ((300,) * 121, "never: stays at about 300"),
        ((300,) * 4, "not by window 4: 300 are left over then, about as many as before"),
        (tuple(range(100, 221)), "never: growing by 1 event a window"),
        ((3, 2, 1), "not by window 3: 1 is left over then, 1 fewer with each window so far; none by about window 4"),
        (
            (400, 300, 200, 100),
            "not by window 4: 100 are left over then, 100 fewer with each window so far; none by about window 5",
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


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        ((0, 0), "nothing is left over in window 2, but in the long run it grows by at least 2 events a window"),
        ((300, 300), "never: growing by at least 2 events a window"),
        ((300, 200), "never: growing by at least 2 events a window"),
        (tuple(range(100, 342, 2)), "never: growing by 2 events a window"),
    ],
)
def test_the_verdict_where_more_arrives_than_comes_through(left, expected):
    """That is sure, whatever the windows show."""
    assert made(*left, arrivals=102.0, most=100.0).verdict == expected


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

    found = carried(
        Workload({}, (kind(number=2),), {"a0": WindowState(ages=(5.0,), rest_seconds=200.0, suspect=True)}),
        calls,
        EVERY,
        GUARD,
    )

    assert found["a0"] == WindowState(ages=(10.0, 30.0, 30.0, 30.0), rest_seconds=20.0, suspect=True)
    assert found["a1"] == WindowState()


def test_what_an_endpoint_is_shut_for_is_carried():
    """A pause and a hold last so much less at the next start."""
    shut = WindowState(rest_seconds=200.0, held_seconds=190.0, paused_seconds=100.0)

    found = carried(Workload({}, (kind(number=2),), {"a0": shut}), [], EVERY, GUARD)

    assert found["a0"] == WindowState(rest_seconds=20.0, held_seconds=10.0)


def test_a_call_counts_for_the_budget_of_its_endpoint():
    """Calls at two endpoints that hang on one account come together in its window."""
    account = Budget("account", Limit.parse("100/minute"))
    calls = [Start(170_000_000, TYPE, "a0", 2, TAKES), Start(175_000_000, TYPE, "a1", 1, TAKES)]

    found = carried(Workload({}, (kind(number=2, budget=account),), {}), calls, EVERY, GUARD)

    assert found["account"] == WindowState(ages=(5.0, 10.0, 10.0))


def test_what_no_rule_counts_any_more_is_not_carried():
    """The newest calls as many as a rule allows keep a window shut; older ones add nothing."""
    calls = [Start(at * 1_000_000, TYPE, "a0", 1, TAKES) for at in range(130, 180)]

    found = carried(Workload({}, (kind(number=1),), {}), calls, EVERY, GUARD)

    assert found["a0"].ages == tuple(float(age) for age in range(1, 31))


def test_nothing_to_do_is_nothing_left_over():
    """No event waits, none arrives."""
    workload = Workload({TYPE: 0}, TYPES)
    found = look_ahead(workload, {TYPE: 0.0}, 5, lambda _: Course(left={TYPE: 0}), lambda *_: {}, LongRun())

    assert len(found.windows) == 1
    assert found.verdict == "nothing is left over"
