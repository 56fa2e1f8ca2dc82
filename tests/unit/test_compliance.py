"""The most calls in any period, each period judged by the limit in force at its last call."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlm.core.clock import timestamp
from rlm.core.endpoint import Limit
from rlm.ledger.compliance import peaks

SECOND = 1_000_000
#: Ticks of a quarter of a second: the only moments there are, so that periods often touch.
TICK = SECOND // 4

moments = st.integers(0, 120)
limits = st.sampled_from(["1/second", "2/second", "3 per 2 second", "2/second; 5 per 8 second", "4 per 0.75 second"])


def at(*seconds):
    """Stamps at these seconds."""
    return [round(one * SECOND) for one in seconds]


def told(stamps, limit, history=(), since=0):
    """Return the result in short: amount, period, most, end of the fullest period, whether exceeded."""
    found = peaks(stamps, Limit.parse(limit), history, round(since * SECOND))
    return [
        (one.amount, one.period_seconds, one.most, timestamp(one.at) if one.at else None, one.exceeded) for one in found
    ]


@given(
    ticks=st.lists(moments, max_size=50),
    in_force=limits,
    changes=st.lists(st.tuples(moments, limits), max_size=4),
    since=moments,
)
def test_it_agrees_with_trying_every_period(ticks, in_force, changes, since):
    stamps = sorted(tick * TICK for tick in ticks)
    history = sorted(((tick / 4, text) for tick, text in changes), key=lambda change: change[0])
    history = [*history, (history[-1][0], in_force)] if history else []

    found = {
        (one.amount, one.period_seconds): (one.most, one.exceeded)
        for one in peaks(stamps, Limit.parse(in_force), history, since * TICK)
    }

    expected = {(rule.amount, rule.seconds): 0 for rule in Limit.parse(in_force).rules}
    for end in [one for one in stamps if one >= since * TICK]:
        before = [text for at, text in history if round(at * SECOND) <= end]
        text = before[-1] if before else history[0][1] if history else in_force
        for rule in Limit.parse(text).rules:
            number = sum(end - rule.seconds * SECOND < one <= end for one in stamps)
            key = rule.amount, rule.seconds
            expected[key] = max(expected.get(key, 0), number)
    assert found == {rule: (most, most > rule[0]) for rule, most in expected.items()}


def test_a_period_is_half_open():
    assert told(at(1.0, 2.0), "1/second") == [(1, 1.0, 1, 2.0, False)]
    assert told(at(1.000001, 2.0), "1/second") == [(1, 1.0, 2, 2.0, True)]


def test_a_period_that_began_before_counts_whole():
    assert told(at(0.5, 0.9, 1.2), "2/second", since=1.0) == [(2, 1.0, 3, 1.2, True)]
    assert told(at(0.5, 0.6, 0.7), "2/second", since=1.0) == [(2, 1.0, 0, None, False)]
