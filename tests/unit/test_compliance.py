"""The most calls in any period, each period judged by the limit in force at its last call."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlm.admin.compliance import peaks
from rlm.core.clock import timestamp
from rlm.core.endpoint import Limit

SECOND = 1_000_000
#: Ticks of a quarter of a second: the only moments there are, so that periods often touch.
TICK = SECOND // 4

moments = st.integers(0, 120)
limits = st.sampled_from(["1/second", "2/second", "3 per 2 second", "2/second; 5 per 8 second", "4 per 0.75 second"])


def at(*seconds):
    """Stamps at these seconds."""
    return [round(one * SECOND) for one in seconds]


def told(stamps, limit, since=0):
    """Return the result in short: amount, period, most, end of the fullest period, whether exceeded."""
    return [
        (each.amount, each.period_seconds, each.most, timestamp(each.at) if each.at else None, each.exceeded)
        for each in peaks(stamps, Limit.parse(limit), round(since * SECOND))
    ]


@given(ticks=st.lists(moments, max_size=50), text=limits, since=moments)
def test_it_agrees_with_trying_every_period(ticks, text, since):
    stamps, limit = sorted(tick * TICK for tick in ticks), Limit.parse(text)

    found = [each.most for each in peaks(stamps, limit, since * TICK)]

    ends = [end for end in stamps if end >= since * TICK]
    assert found == [
        max((sum(end - rule.seconds * SECOND < each <= end for each in stamps) for end in ends), default=0)
        for rule in limit.rules
    ]


def test_a_period_is_half_open():
    assert told(at(1.0, 2.0), "1/second") == [(1, 1.0, 1, 2.0, False)]
    assert told(at(1.000001, 2.0), "1/second") == [(1, 1.0, 2, 2.0, True)]


def test_a_period_that_began_before_counts_whole():
    assert told(at(0.5, 0.9, 1.2), "2/second", since=1.0) == [(2, 1.0, 3, 1.2, True)]
    assert told(at(0.5, 0.6, 0.7), "2/second", since=1.0) == [(2, 1.0, 0, None, False)]
