from __future__ import annotations

import pytest

from tests.wait import wait_until


def test_what_the_condition_returned_is_returned():
    """It waits while the condition is not true and returns the first true value."""
    values = iter([None, 0, "found"])

    assert wait_until(lambda: next(values)) == "found"


def test_a_condition_that_never_holds_fails_the_test_by_name():
    """At the deadline it fails, saying what was waited for and what was seen last."""
    with pytest.raises(AssertionError, match=r"waited 0.02 s until the lamp is lit, in vain; last seen: 0"):
        wait_until(lambda: 0, timeout=0.02, message="the lamp is lit")
