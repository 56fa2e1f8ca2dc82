"""What waiting events wait for at one moment, and the sum over a run."""

from __future__ import annotations

import pytest

from rlm.core.endpoint import Budget, Endpoint, EventType, Limit
from rlm.core.trail import Counts
from rlm.core.window import WindowState
from rlm.plan.choose_releases import ReleaseState
from rlm.plan.waits import GAP_SECONDS, Obstacle, Wait, Waits, waits_of
from tests.each import each
from tests.values import replace

LIMIT = Limit.parse("30/minute")
BUDGET = Budget("account", Limit.parse("10/minute"))
FREE, FULL = WindowState(5, 0.0, 0.0), WindowState(0, 20.0, 0.0)
PAUSED = WindowState(0, 60.0, 60.0, paused_seconds=60.0)
RESTING = WindowState(0, 5.0, 5.0, suspect=True)
HELD = WindowState(0, 60.0, 60.0, held_seconds=60.0)


def kind(*names, budget=None):
    return EventType("T", 1, 2.0, tuple(Endpoint(one, f"http://h/{one}", LIMIT, 10.0, budget=budget) for one in names))


def scene(views, *, pending=9, inflight=0, lanes=5, remaining=60.0):
    return ReleaseState({"T": Counts(pending=pending, inflight=inflight)}, views, lanes, remaining)


@each(
    ("seen", "expected"),
    [
        (scene({"a": FREE}), {}),
        (scene({"a": FREE}, pending=0, lanes=0), {}),
        (scene({"a": FREE}, remaining=1.0), {}),
        (scene({"a": FREE}, lanes=0), {Wait(Obstacle.WORKERS): 1.0}),
        (scene({"a": FREE}, inflight=5), {Wait(Obstacle.LANES): 1.0}),
        (scene({"a": FULL}, inflight=5), {Wait(Obstacle.LIMIT): 1.0}),
        (scene({"a": PAUSED}), {Wait(Obstacle.PAUSED, "a"): 1.0}),
        (scene({"a": RESTING}), {Wait(Obstacle.RESTING, "a"): 1.0}),
        (scene({"a": HELD}), {Wait(Obstacle.HELD, "a"): 1.0}),
    ],
)
def test_what_is_in_the_way_is_named(seen, expected):
    """Nothing where an event is about to go, none waits, or there is no time for a call."""
    assert waits_of(seen, kind("a"), begun=True) == expected


def test_events_whose_calls_no_worker_takes_wait_for_one_that_does():
    """Their calls are released again and again, so none of them is pending. Where no slot is free, that is why."""
    silent = Wait(Obstacle.SILENT)
    state = ReleaseState({"T": Counts(released=9)}, {"a": FREE}, 10, 60.0, lack=silent)
    waits = Waits(0.0)

    waits.look(1.0, state, [kind("a")], begun=True, away=False)

    assert waits.by_type == {"T": {silent: 1.0}}
    assert waits_of(replace(state, windows={"a": FULL}), kind("a"), begun=True) == {Wait(Obstacle.LIMIT): 1.0}
    assert waits_of(replace(state, lack=None), kind("a"), begun=True) == {}
    written = waits.as_json()
    assert written["by_type"] == {"T": {"silent": 1.0}}
    assert Waits.read(written, 0.0) == waits


def test_a_full_budget_is_told_from_a_full_endpoint():
    """The one with the later slot is in the way."""
    seen = scene({"a": FREE, "account": FULL})

    assert waits_of(seen, kind("a", budget=BUDGET), begun=True) == {Wait(Obstacle.BUDGET, "account"): 1.0}


def look(waits, now, views, **more):
    options = {"begun": True, "away": False, **{key: more.pop(key) for key in ("begun", "away") if key in more}}
    waits.look(now, scene(views, **more), [kind("a")], **options)


def test_time_is_put_down_to_what_is_seen_at_its_end():
    """And what was written down is read back the same."""
    waits = Waits(100.0)

    look(waits, 100.5, {"a": FULL})
    look(waits, 101.5, {"a": PAUSED})
    look(waits, 102.0, {"a": FULL}, away=True)
    look(waits, 102.0 + GAP_SECONDS + 1, {"a": FULL})

    told = {"limit": 0.5, "paused a": 1.0, "redis": 0.5, "conductor": GAP_SECONDS + 1}
    assert waits.as_json() == {"until": 102.0 + GAP_SECONDS + 1, "by_type": {"T": told}}
    assert Waits.read(waits.as_json(), 0.0) == waits


@pytest.mark.parametrize(
    ("views", "full", "expected"),
    [
        ({"a": FREE, "b": FREE}, (), {Wait(Obstacle.CONDUCTOR): 22.0}),
        ({"a": FREE, "b": FREE}, ("a",), {Wait(Obstacle.CONDUCTOR): 22.0}),
        ({"a": FREE, "b": FULL}, ("a", "b"), {Wait(Obstacle.LIMIT): 22.0}),
        ({"a": PAUSED, "b": FREE}, ("b",), {Wait(Obstacle.PAUSED, "a"): 11.0, Wait(Obstacle.LIMIT): 11.0}),
        ({"a": RESTING, "b": RESTING}, (), {Wait(Obstacle.RESTING, "a"): 11.0, Wait(Obstacle.RESTING, "b"): 11.0}),
    ],
)
def test_a_run_that_opens_late_waited_for_nobody_only_where_it_could_have_sent(views, full, expected):
    """It is no start that took long. Where every endpoint was full or shut, being on time had changed nothing."""
    waits = Waits(122.0)

    waits.open_late({"conductor": 22.0}, scene(views, remaining=0.1), [kind("a", "b")], full)

    assert waits.by_type == {"T": expected}


def test_time_that_nobody_looked_at_is_put_down_to_nobody():
    """Up to the end, for the types that wait; a moment less than a gap was no conductor's absence."""
    for gone, begun, expected in (
        (30, True, {Wait(Obstacle.CONDUCTOR): 30.0}),
        (30, False, {Wait(Obstacle.START): 30.0}),
        (1, True, {}),
    ):
        waits = Waits(100.0)

        waits.stand_still(100.0 + gone, ["A"], begun=begun)

        assert waits.by_type.get("A", {}) == expected
        assert "B" not in waits.by_type
        assert waits.until == 100.0 + gone


def test_while_all_endpoints_are_shut_no_worker_is_missed() -> None:
    """One that may be probed, or that is merely full, would be called by a worker."""
    probing = WindowState(1, 0.0, 5.0, suspect=True)

    def without_lanes(**views: WindowState) -> dict[Wait, float]:
        return waits_of(scene(views, lanes=0), kind(*views), begun=True)

    assert without_lanes(a=PAUSED, b=HELD) == {Wait(Obstacle.PAUSED, "a"): 0.5, Wait(Obstacle.HELD, "b"): 0.5}
    assert without_lanes(a=PAUSED, b=FULL) == {Wait(Obstacle.WORKERS): 1.0}
    assert without_lanes(a=PAUSED, b=probing) == {Wait(Obstacle.WORKERS): 1.0}
