"""The strict window: what it admits, what it refuses, and the wait that it returns."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from rlm.core.endpoint import Limit
from rlm.sandbox.mockapi.endpoint import StrictWindow

#: Gaps between calls in 64ths of a second, which floats hold exactly: the edges of a period are really met.
GAPS = st.lists(st.integers(0, 200).map(lambda ticks: ticks / 64), max_size=120)


def test_refuses_the_31st_call_of_a_minute_and_admits_it_after():
    """Thirty calls at once use up 30/minute until a minute after them."""
    window = StrictWindow(Limit.parse("30/minute"))

    admitted = [window.admit(1000.0) for _ in range(30)]

    assert all(admitted)
    assert not window.admit(1059.9)
    assert window.admit(1060.1)


def test_a_call_a_period_later_to_the_dot_is_in_another_period():
    """The far end of a period does not belong to it."""
    window = StrictWindow(Limit.parse("1/minute"))
    window.admit(0.0)

    assert not window.admit(math.nextafter(60.0, 0.0))
    assert window.admit(60.0)


def test_refused_calls_take_no_room():
    """A caller that hammers a full window gets in as soon as one that waited."""
    window = StrictWindow(Limit.parse("1 per 10 second"))
    window.admit(0.0)

    refused = [window.admit(at / 10) for at in range(1, 100)]

    assert not any(refused)
    assert window.admit(10.0)


def test_periods_may_be_fractions_of_a_second():
    """A limit of a fast demo is enforced as strictly as one of a minute."""
    window = StrictWindow(Limit.parse("2 per 0.6 second"))

    assert [window.admit(at) for at in (0.0, 0.5, 0.55, 0.65, 1.05, 1.15)] == [True, True, False, True, False, True]


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
