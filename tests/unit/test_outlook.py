"""When a backlog is gone at the arrivals of the last runs."""

from __future__ import annotations

from rlm.core.endpoint import Budget, Endpoint, EventType, Limit
from rlm.plan.outlook import look_ahead
from tests.each import each

#: Four endpoints of 30 calls a minute: 357 calls in a window of three minutes, in the long run.
LIMIT, GUARD, WINDOW = Limit.parse("30/minute"), 0.5, 180.0


def kind(name, budget=None):
    """A type with four endpoints."""
    endpoints = (Endpoint(f"{name}{at}", f"http://h/{name}{at}", LIMIT, 10, budget=budget) for at in range(4))
    return EventType(name, 5, 1.0, tuple(endpoints))


TYPES = (kind("A"),)


def sentence(left, arrivals, types=TYPES, completed=360, shut=()):
    """The outlook of a run that completes so many events of each type, in words."""
    names = [one.name for one in types]
    left = dict.fromkeys(names, left)
    events = {name: number + completed for name, number in left.items()}
    arriving = dict.fromkeys(names, float(arrivals))
    found = look_ahead(types, events, left, arriving, shut, window_seconds=WINDOW, guard_seconds=GUARD)
    return found.sentence.removeprefix("At the arrivals of the last runs the backlog ")


@each(
    ("left", "arrivals", "expected"),
    [
        (0, 0, "is gone in 1 window."),
        (0, 300, "is gone in 1 window."),
        (140, 0, "is gone in 2 windows."),
        (140, 300, "is gone in 4 windows."),
        (140, 400, "grows by about 43 events a window."),
        (0, 400, "grows by about 43 events a window."),
        (140, 357, "does not shrink."),
    ],
)
def test_what_the_limits_leave_beside_the_arrivals_takes_the_backlog(left, arrivals, expected):
    """A window completes 357 events at most."""
    assert sentence(left, arrivals) == expected


def test_a_window_completes_no_more_than_the_planned_run():
    """Few workers do less than the limits allow."""
    assert sentence(140, 0, completed=70) == "is gone in 3 windows."


def test_a_shared_budget_bounds_all_types_together():
    """100 arrive for each of two types, and 90 calls are allowed for both."""
    budget = Budget("account", LIMIT)

    assert sentence(0, 100, (kind("A", budget), kind("B", budget))) == "grows by about 111 events a window."


def test_what_failed_is_not_counted_on():
    """A type without any other endpoint completes nothing."""
    assert sentence(10, 5, completed=0, shut=[f"A{at}" for at in range(4)]) == "grows by about 5 events a window."
