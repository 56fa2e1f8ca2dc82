"""The strict window: what it admits, what it refuses, and the wait that it returns."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlm.core.endpoint import Limit
from rlm.sandbox.mockapi import StrictWindow

#: Gaps between calls in 64ths of a second, which floats hold exactly: the edges of a period are really met.
GAPS = st.lists(st.integers(0, 200).map(lambda ticks: ticks / 64), max_size=120)


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
        assert (window.wait_seconds(at) == 0) == fits
        if fits:
            window.admit(at)
            admitted.append(at)


def test_a_call_that_was_read_late_is_judged_by_when_it_came():
    window = StrictWindow(Limit.parse("2 per 2 second"))
    for at in (10.0, 13.0, 13.1):
        assert window.wait_seconds(at) == 0
        window.admit(at)

    assert window.wait_seconds(11.0) == 0
    assert window.wait_seconds(13.2) > 0
