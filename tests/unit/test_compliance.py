"""The most calls in any period, each period judged by the limit in force at its last call."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlm.admin.endpoints import peaks
from rlm.core.endpoint import Limit

SECOND = 1_000_000
#: Ticks of a quarter of a second: the only moments there are, so that periods often touch.
TICK = SECOND // 4

moments = st.integers(0, 120)
limits = st.sampled_from(["1/second", "2/second", "3 per 2 second", "2/second; 5 per 8 second", "4 per 0.75 second"])


@given(ticks=st.lists(moments, max_size=50), text=limits, since=moments)
def test_it_agrees_with_trying_every_period(ticks, text, since):
    stamps, limit = sorted(tick * TICK for tick in ticks), Limit.parse(text)

    found = [each.most for each in peaks(stamps, limit, since * TICK)]

    ends = [end for end in stamps if end >= since * TICK]
    assert found == [
        max((sum(end - rule.seconds * SECOND < each <= end for each in stamps) for end in ends), default=0)
        for rule in limit.rules
    ]
