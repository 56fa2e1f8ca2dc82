"""How fast the queues move, from samples of what waits."""

from __future__ import annotations

import pytest

from rlm.admin.monitoring import QueueSample, Rates


def rates(*samples):
    """Rates of (second, items, in the ledger, ever taken)."""
    found = Rates()
    for one in samples:
        found.add(QueueSample(*one))
    return found


def test_nothing_is_known_at_first():
    """Not from one sample, nor from a moment, nor from samples of before the clock was set back."""
    for samples in [(), [(0.0, 5, 5, 5)], [(0.0, 5, 5, 5), (1.0, 50, 5, 5)], [(100.0, 0, 0, 0), (90.0, 5, 5, 5)]]:
        assert (rates(*samples).arriving, rates(*samples).settled) == (None, None)


def test_items_that_arrive_are_counted_but_while_a_drain_empties_the_list():
    """20 in 20 seconds are seen; what came in the 10 seconds of the drain is not, and neither are those seconds."""
    assert rates((0.0, 0, 0, 0), (10.0, 10, 0, 0), (20.0, 4, 10, 10), (30.0, 14, 5, 10)).arriving == 60.0


def test_what_has_stopped_a_minute_ago_is_not_said_to_go_on():
    """600 items came in the first minute, and then none for two."""
    assert rates(*((float(at), 10 * min(at, 60), 0, 0) for at in range(0, 180, 5))).arriving == 0


def test_what_leaves_the_ledger_is_settled_though_more_is_taken_meanwhile():
    """10 were taken and the ledger grew by 4, so 6 were settled; then 4 more."""
    assert rates((0.0, 0, 10, 100), (10.0, 0, 14, 110), (20.0, 0, 10, 110)).settled == pytest.approx(30.0)
