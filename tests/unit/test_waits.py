"""What waiting events wait for at one moment, and the sum over a run."""

from __future__ import annotations

import pytest

from rlm.core.endpoint import Budget, Endpoint, EventType, Limit
from rlm.core.trail import Counts
from rlm.core.window import WindowState
from rlm.plan.waits import SLOW_SECONDS, Look, Obstacle, Wait, Waits, waits_of
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


def scene(views, *, pending=9, inflight=0, lanes=5, remaining=60.0, **more):
    return Look({"T": Counts(pending=pending, inflight=inflight)}, views, lanes, remaining, **more)


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
    assert waits_of(seen, kind("a")) == expected


@each(
    ("seen", "expected"),
    [
        (scene({"a": FREE}), True),
        (scene({"a": FREE}, inflight=5), False),
        (scene({"a": FULL}), False),
        (scene({"a": FREE}, pending=0), False),
        (scene({"a": FREE}, remaining=1.0), False),
        (scene({"a": FREE}, lanes=0), False),
    ],
)
def test_a_run_stands_still_where_an_event_has_a_slot_and_an_idle_lane(seen, expected):
    assert seen.stands_still([kind("a")]) is expected


def test_a_run_without_lanes_has_not_begun_or_lacks_workers():
    """Why, if that is known; with a slow Redis, idle lanes wait for that."""
    lack = Wait(Obstacle.WORKERS, "no supervisor")

    assert waits_of(scene({"a": FREE}, lanes=0, begun=False), kind("a")) == {Wait(Obstacle.START): 1.0}
    assert waits_of(scene({"a": FREE}, lanes=0, lack=lack), kind("a")) == {lack: 1.0}
    assert waits_of(scene({"a": FREE}, answer_seconds=2 * SLOW_SECONDS), kind("a")) == {Wait(Obstacle.REDIS): 1.0}


def test_a_full_budget_is_told_from_a_full_endpoint():
    """The one with the later slot is in the way."""
    seen = scene({"a": FREE, "account": FULL})

    assert waits_of(seen, kind("a", budget=BUDGET)) == {Wait(Obstacle.BUDGET, "account"): 1.0}


def test_time_is_put_down_to_what_is_seen_at_its_end():
    """And what was written down is read back the same."""
    waits = Waits(100.0)

    for now, view, away in ((100.5, FULL, False), (101.5, PAUSED, False), (102.0, FULL, True), (109.0, FULL, False)):
        waits.look(now, scene({"a": view}, away=away), [kind("a")])

    assert waits.as_json() == {"until": 109.0, "by_type": {"T": {"limit": 7.5, "paused a": 1.0, "redis": 0.5}}}
    assert Waits.read(waits.as_json(), 0.0) == waits


def test_who_has_no_chance_any_more_waits_for_that_to_the_end():
    """A lane may close the run before the next look; nothing is put down twice."""
    waits, types = Waits(100.0), [kind("a")]
    waits.look(101.0, scene({"a": FULL}), types)

    assert waits.at_end(scene({"a": FULL}), types) == waits
    paused = replace(PAUSED, wait_seconds=90.0, rest_seconds=90.0, paused_seconds=90.0)
    ended = waits.at_end(scene({"a": paused}), types)

    assert ended.by_type == {"T": {Wait(Obstacle.LIMIT): 1.0, Wait(Obstacle.PAUSED, "a"): 60.0}}
    assert waits.by_type == {"T": {Wait(Obstacle.LIMIT): 1.0}}


@pytest.mark.parametrize(
    ("counts", "view", "can"),
    [
        (Counts(pending=1), FREE, True),
        (Counts(backoff=1), FULL, True),
        (Counts(pending=1), PAUSED, False),  # beyond the deadline, with the time of the call
        (Counts(inflight=1), PAUSED, True),  # it may fail, and the pause may be ended
        (Counts(spent=1), FREE, False),
        (Counts(), FREE, False),
    ],
)
def test_a_run_goes_on_while_an_event_may_be_sent(counts, view, can):
    """Now, or at the next slot."""
    assert Look({"T": counts}, {"a": view}, 5, 60.0).can_send([kind("a")]) is can


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


def test_while_all_endpoints_are_shut_no_worker_is_missed() -> None:
    """One that may be probed, or that is merely full, would be called by a worker."""
    probing = WindowState(1, 0.0, 5.0, suspect=True)

    def without_lanes(**views: WindowState) -> dict[Wait, float]:
        return waits_of(scene(views, lanes=0), kind(*views))

    assert without_lanes(a=PAUSED, b=HELD) == {Wait(Obstacle.PAUSED, "a"): 0.5, Wait(Obstacle.HELD, "b"): 0.5}
    assert without_lanes(a=PAUSED, b=FULL) == {Wait(Obstacle.WORKERS): 1.0}
    assert without_lanes(a=PAUSED, b=probing) == {Wait(Obstacle.WORKERS): 1.0}
