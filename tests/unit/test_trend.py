"""The trend of the queues, from samples of what waits."""

from __future__ import annotations

import pytest

from rlm.admin.monitoring import HISTORY_SECONDS, Direction, QueueSample, Trend


def trend(*samples):
    """A trend of (second, items, in the ledger, ever taken)."""
    found = Trend()
    for one in samples:
        found.add(QueueSample(*one))
    return found


def test_nothing_is_known_at_first():
    """Not from one sample, nor from a moment."""
    for found in (trend(), trend((0.0, 5, 5, 5)), trend((0.0, 5, 5, 5), (1.0, 50, 5, 5))):
        assert found.arriving is None
        assert found.settled is None
        assert found.growth is None
        assert found.direction is Direction.UNKNOWN


def test_items_that_arrive_are_counted_but_while_a_drain_empties_the_list():
    """20 in 20 seconds are seen; what came in the 10 seconds of the drain is not, and neither are those seconds."""
    found = trend((0.0, 0, 0, 0), (10.0, 10, 0, 0), (20.0, 4, 10, 10), (30.0, 14, 5, 10))

    assert found.arriving == pytest.approx(60.0)


def test_what_has_stopped_a_minute_ago_is_not_said_to_go_on():
    """600 items came in the first minute, and then none for two."""
    found = trend(*((float(at), 10 * min(at, 60), 0, 0) for at in range(0, 180, 5)))

    assert found.arriving == 0
    assert found.growth == pytest.approx(0)
    assert found.direction is Direction.STEADY


def test_what_leaves_the_ledger_is_settled_though_more_is_taken_meanwhile():
    """10 were taken and the ledger grew by 4, so 6 were settled; then 4 more."""
    found = trend((0.0, 0, 10, 100), (10.0, 0, 14, 110), (20.0, 0, 10, 110))

    assert found.settled == pytest.approx(30.0)
    assert found.settled_each == pytest.approx([36.0, 24.0])


@pytest.mark.parametrize(
    ("step", "direction"),
    [(5, Direction.GROWING), (-5, Direction.DRAINING), (0, Direction.STEADY), (0.03, Direction.STEADY)],
)
def test_what_waits_grows_or_drains(step, direction):
    """By the line nearest to all samples; a drain, which only moves what waits, is no growth."""
    found = trend(*((float(at), 100 if at < 5 else 0, (0 if at < 5 else 100) + step * at, 0) for at in range(10)))

    assert found.growth == pytest.approx(60.0 * step)
    assert found.direction is direction


def test_items_count_as_many_events_as_they_become():
    """50 items of two events each are 100 events that wait."""
    found = trend((0.0, 50, 7, 0))
    found.events_per_item = 2.0

    assert found.waiting == [107.0]


def test_old_samples_are_forgotten():
    """Rates are of the last minutes."""
    found = trend(*((float(at), 0, 0, 0) for at in range(0, 2 * round(HISTORY_SECONDS), 60)))

    assert found.seconds == HISTORY_SECONDS


def test_a_clock_that_is_set_back_begins_anew():
    """No rate is below zero for it."""
    assert trend((100.0, 0, 0, 0), (90.0, 5, 5, 5)).seconds == 0.0
