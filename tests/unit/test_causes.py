"""What waiting events wait for at one look, the sum over a run, and why events were left over."""

from __future__ import annotations

from rlm.core.documents import Reasons
from rlm.core.endpoint import Endpoint, EventType, Limit, WindowState
from rlm.core.item import Counts
from rlm.core.run import Run, State, Trigger, Waited
from rlm.plan.causes import SLOW_SECONDS, Look, left_over, reason_of
from tests.each import each

LIMIT = Limit.parse("30/minute")
FREE, FULL = WindowState(5, 0.0, 0.0), WindowState(0, 20.0, 0.0)
PAUSED = WindowState(0, 60.0, 60.0, paused_seconds=60.0)
RESTING = WindowState(0, 5.0, 5.0, suspect=True)
PROBING = WindowState(1, 0.0, 5.0, suspect=True)
HELD = WindowState(0, 60.0, 60.0, held_seconds=60.0)


def kind(*names, budget=None):
    return EventType("T", 1, 2.0, tuple(Endpoint(one, f"http://h/{one}", LIMIT, 10.0, budget=budget) for one in names))


def scene(views, *, pending=9, inflight=0, lanes=5, remaining=60.0, **more):
    return Look({"T": Counts(pending=pending, inflight=inflight)}, views, lanes, remaining, **more)


@each(
    ("seen", "reason"),
    [
        (scene({"a": FREE}), ""),
        (scene({"a": FREE}, pending=0, lanes=0), ""),
        (scene({"a": FREE}, pending=0, inflight=1), "lanes"),
        (scene({"a": FREE}, remaining=1.0), ""),
        (scene({"a": FREE}, lanes=0), "workers"),
        (scene({"a": FREE}, inflight=5), "lanes"),
        (scene({"a": FULL}, inflight=5), "slots"),
        (scene({"a": PAUSED}), "paused"),
        (scene({"a": PAUSED}, lanes=0), "paused"),
        (scene({"a": RESTING}), "resting"),
        (scene({"a": HELD}), "held"),
        (scene({"a": FREE}, answer_seconds=2 * SLOW_SECONDS), "redis"),
        (scene({"a": FULL}, is_away=True), "redis"),
        (scene({"a": FREE, "b": PAUSED}, lanes=0), "workers"),
        (scene({"a": PROBING}, lanes=0), "workers"),
        (scene({"a": FREE, "account": FULL}), ""),
    ],
)
def test_what_is_in_the_way_is_named(seen, reason):
    """Nothing where an event is about to go, none waits, or there is no time for a call."""
    assert reason_of(seen, kind(*[name for name in seen.windows if name != "account"])) == reason


SLOTS = {"slots": 40.0, "lanes": 3.0}


def ended(waited, until=60.0, last=None, **more):
    waits = Waited(until, waited, last or {})
    return Run("r", State.FINISHING, Trigger.MANUAL, 0.0, 60.0, 0, 60.0, "x", waits=waits, **more)


@each(
    ("leftover", "waited", "more", "expected"),
    [
        ({"A": 24}, {"A": SLOTS}, {}, {"slots": 24}),
        ({"A": 24}, {"A": SLOTS}, {"spent": {"A": 5}}, {"slots": 19, "retries": 5}),
        ({"A": 8, "B": 2}, {"A": SLOTS, "B": {"paused": 1.0}}, {}, {"slots": 8, "paused": 2}),
        ({"A": 8}, {}, {}, {"lanes": 8}),
        ({"A": 8}, {}, {"failure": "Redis was away"}, {"redis": 8}),
        ({"A": 8}, {}, {"cancelled": True}, {"workers": 8}),
        ({"A": 8}, {"A": {"paused": 5.0}}, {"cancelled": True}, {"paused": 8}),
        ({"A": 8}, {"A": SLOTS}, {"until": 15.0, "last": {"A": "lanes"}}, {"lanes": 8}),
        ({"A": 8}, {"A": SLOTS}, {"until": 15.0, "last": {"A": "lanes"}, "cancelled": True}, {"slots": 8}),
    ],
)
def test_each_event_is_left_over_for_one_reason(leftover, waited, more, expected):
    """What its type waited for longest."""
    assert left_over(ended(waited, **more), leftover)[0] == Reasons(**expected)
