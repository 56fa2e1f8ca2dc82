"""The fence of a worker: which calls may leave, and when calls in flight are cut."""

from __future__ import annotations

import pytest

from rlm.delivery import fence
from rlm.delivery.fence import CLOSING_SECONDS, FENCE_SECONDS, Fence, NoFence
from rlm.ledger.processes import BRISK_SECONDS, HEARTBEAT_SECONDS, HEARTBEAT_TTL_SECONDS
from tests.clocks import SetClock
from tests.wait import wait_until


@pytest.fixture
def clock(monkeypatch):
    clock = SetClock()
    monkeypatch.setattr(fence, "system_clock", clock)
    return clock


def test_it_shuts_between_two_announcements_that_are_due_and_before_the_entry_ends():
    """Else a worker that is well would be cut, or one that is taken for dead would be sending.

    While Redis is away for 5 s no call is cut: its worker had announced itself a brisk heartbeat before. One without
    events in hand has no call, and announces itself when it gets one.
    """
    assert BRISK_SECONDS + 5 <= FENCE_SECONDS
    assert HEARTBEAT_SECONDS + 1 < FENCE_SECONDS - CLOSING_SECONDS
    assert FENCE_SECONDS <= HEARTBEAT_TTL_SECONDS - 1


def test_nothing_leaves_before_the_first_announcement(clock):
    """Nobody knows of the worker yet."""
    made = Fence()
    assert made.shut
    assert not made.admits(clock.time)

    made.announced(clock.boottime())

    assert made.admits(clock.time)


def test_it_counts_from_when_the_announcement_began(clock):
    """Redis may have heard it then, and its answer taken long."""
    made = Fence()
    began = clock.boottime()
    clock.time += 5
    made.announced(began)

    clock.time += FENCE_SECONDS - 5.1
    assert not made.shut
    clock.time += 0.2
    assert made.shut


def test_a_call_that_would_be_cut_does_not_begin(clock):
    """After Redis was away a worker may be about to be fenced; its lanes wait until it is heard from again."""
    made = Fence()
    assert made.closing
    made.announced(clock.boottime())
    assert not made.closing

    clock.time += FENCE_SECONDS - CLOSING_SECONDS

    assert (made.closing, made.shut) == (True, False)
    assert not NoFence().closing


def test_what_was_claimed_before_the_gap_stays_inside(clock):
    """It may be another worker's by now, although this one is heard from again."""
    made = Fence()
    made.announced(clock.boottime())
    before = clock.time
    clock.time += FENCE_SECONDS

    made.announced(clock.boottime())

    assert not made.shut
    assert not made.admits(before)
    assert made.admits(clock.time)


def test_a_late_answer_to_an_announcement_closes_the_gap_only_from_now_on(clock):
    """It was shut meanwhile, whenever that began."""
    made = Fence()
    made.announced(clock.boottime())
    clock.time += FENCE_SECONDS - 0.5
    began, claimed = clock.boottime(), clock.time
    clock.time += 2

    made.announced(began)

    assert not made.shut
    assert not made.admits(claimed)


def test_announcements_in_time_leave_no_gap(clock):
    """A call may last for many of them."""
    made = Fence()
    made.announced(clock.boottime())
    claimed = clock.time
    for _ in range(10):
        clock.time += HEARTBEAT_SECONDS
        made.announced(clock.boottime())

    assert made.admits(claimed)


def test_a_host_that_slept_is_not_heard_of_either(clock):
    """Its monotonic clock may have stood still."""
    made = Fence()
    made.announced(clock.boottime())
    clock.slept += FENCE_SECONDS

    assert made.shut


def test_what_is_under_way_is_cut_again_and_again_while_it_is_shut():
    """A call may have left in the same moment."""
    cuts = []
    made = Fence(lambda: cuts.append(1), seconds=0.01)
    made.start()
    try:
        wait_until(lambda: len(cuts) > 1)
    finally:
        made.stop()


def test_it_sleeps_while_nothing_is_under_way():
    """Twenty idle workers would wake six times a second for it. Before a call begins it is told to watch again."""
    cuts, looks = [], []
    made = Fence(lambda: cuts.append(1), seconds=0.01)
    left, made._left_seconds = made._left_seconds, lambda: (looks.append(1), left())[1]
    made.relax()
    made.start()
    try:
        wait_until(lambda: cuts, message="it looked once")
        before = len(looks)
        assert not made._stopped.wait(0.3)
        assert len(looks) == before

        made.watch()

        wait_until(lambda: len(cuts) > 2, message="it cuts again and again")
    finally:
        made.stop()
