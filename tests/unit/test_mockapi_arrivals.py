"""The arrival log and the recount."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlm.core.endpoint import Rule
from rlm.sandbox.mockapi.service import Arrival, recount


def arrival(at, *, endpoint="a", accepted=True):
    return Arrival(at, endpoint, "e1", 1, "r1", None, accepted)


@given(ticks=st.lists(st.tuples(st.integers(0, 400), st.booleans()), max_size=60))
def test_recount_agrees_with_counting_every_period(ticks):
    """The recount finds what trying every period, beginning anywhere, finds."""
    arrivals = [arrival(tick / 64, accepted=accepted) for tick, accepted in ticks]
    accepted = [one.at for one in arrivals if one.accepted]

    # Ticks are the only times there are, so periods that begin at a tick are all that differ.
    starts = [tick / 64 for tick in range(-64, 401)]
    most = max(sum(start <= at < start + 1.0 for at in accepted) for start in starts)

    assert recount(arrivals, Rule(3, 1.0)) == most
