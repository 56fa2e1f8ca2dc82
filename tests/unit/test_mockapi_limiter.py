"""The strict window: what it admits, what it refuses, and the wait that it returns."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from rlm.core.endpoint import Limit
from rlm.sandbox.mockapi import StrictWindow

#: Gaps between calls in 64ths of a second, which floats hold exactly: the edges of a period are really met.
GAPS = st.lists(st.integers(0, 200).map(lambda ticks: ticks / 64), max_size=120)


def test_a_call_a_period_later_to_the_dot_is_in_another_period():
    """The far end of a period does not belong to it."""
    window = StrictWindow(Limit.parse("1/minute"))
    window.admit(0.0)

    assert not window.admit(math.nextafter(60.0, 0.0))
    assert window.admit(60.0)


def test_the_wait_is_that_of_the_rule_that_opens_last():
    """With several rules a call waits for all of them."""
    window = StrictWindow(Limit.parse("1/second; 2/minute"))
    for at in (0.0, 10.0):
        window.admit(at)

    assert window.wait_seconds(10.25) == 49.75
    assert window.wait_seconds(60.0) == 0.0


def test_a_refusal_always_has_a_wait_above_zero():
    """Within a rounding error of the edge a call is admitted exactly if none lies in the period before it."""
    window = StrictWindow(Limit.parse("1 per 0.1 second"))
    window.admit(0.3)

    at = 0.4
    for _ in range(20):
        assert (window.wait_seconds(at) > 0) == (at - 0.1 < 0.3)
        at = math.nextafter(at, 0.0)


@given(gaps=GAPS)
def test_never_too_many_and_never_too_few(gaps):
    """However calls arrive, an admitted one never exceeds a rule and a refused one would have."""
    limit = Limit.parse("5 per 2 second; 12 per 10 second")
    window = StrictWindow(limit)
    admitted: list[float] = []
    at = 0.0

    for gap in gaps:
        at += gap
        fits = all(sum(at - rule.seconds < time for time in admitted) < rule.amount for rule in limit.rules)
        assert window.admit(at) == fits
        admitted += [at] if fits else []
