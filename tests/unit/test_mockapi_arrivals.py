"""The arrival log and the recount."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlm.core.endpoint import Budget, Endpoint, Limit, Rule
from rlm.sandbox.mockapi import Arrival, exceeded, recount, summarise

ACCOUNT = Budget("account", Limit.parse("3/second"))


def arrival(at, *, endpoint="a", accepted=True):
    return Arrival(at, endpoint, "e1", 1, "r1", None, accepted)


def endpoints(limit, budget=None):
    return [Endpoint(name, f"http://h/{name}", Limit.parse(limit), 10.0, budget=budget) for name in ("a", "b")]


@given(ticks=st.lists(st.tuples(st.integers(0, 400), st.booleans()), max_size=60))
def test_recount_agrees_with_counting_every_period(ticks):
    """The recount finds what trying every period, beginning anywhere, finds."""
    arrivals = [arrival(tick / 64, accepted=accepted) for tick, accepted in ticks]
    accepted = [one.at for one in arrivals if one.accepted]

    # Ticks are the only times there are, so periods that begin at a tick are all that differ.
    starts = [tick / 64 for tick in range(-64, 401)]
    most = max(sum(start <= at < start + 1.0 for at in accepted) for start in starts)

    assert recount(arrivals, Rule(3, 1.0)) == most


def test_a_limit_that_was_exceeded_is_named():
    """Each rule is looked at, each endpoint alone; as many as are allowed are not too many."""
    burst = [arrival(tick / 8) for tick in range(3)] + [arrival(0.0, endpoint="b")]

    assert exceeded(burst, endpoints("3/second; 3/minute")) == []
    assert exceeded(burst, endpoints("2/minute")) == ["a let 3 calls through in 60 s, not 2"]
    assert exceeded(burst, endpoints("3/second; 2 per 0.5 second")) == ["a let 3 calls through in 0.5 s, not 2"]
    assert exceeded([], endpoints("1/second")) == []


def test_a_budget_that_was_exceeded_is_named():
    """The calls of its endpoints count together, though each keeps its own limit; refused ones do not count."""
    calls = [arrival(tick / 8, endpoint=name) for tick in range(2) for name in ("a", "b")]

    assert exceeded(calls, endpoints("2/second", ACCOUNT)) == ["account let 4 calls through in 1 s, not 3"]
    assert exceeded(calls, endpoints("2/second")) == []
    assert exceeded([*calls[:3], arrival(0.5, accepted=False)], endpoints("2/second", ACCOUNT)) == []


def test_summary_shows_the_rule_that_was_nearest_to_its_amount():
    """Of several rules the summary tells how full the fullest was."""
    arrivals = [arrival(0.0), arrival(10.0), arrival(20.0, accepted=False)]

    summary = summarise(arrivals, Limit.parse("2/second; 2/minute"), 4)

    assert (summary.calls, summary.accepted, summary.refused, summary.cut) == (3, 2, 1, 4)
    assert (summary.most, summary.limit) == (2, "2/second; 2/minute")
