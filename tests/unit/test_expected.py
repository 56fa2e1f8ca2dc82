"""What the calls of a type to an endpoint show of the next one."""

from __future__ import annotations

import pytest

from rlm.core.call import Expected, expect


def outcomes(run_id, *seconds):
    return [(run_id, each) for each in seconds]


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([], None),
        (outcomes("old", *[1.0] * 19), None),
        (outcomes("old", *[1.0] * 19, 3.0), Expected(1.0, 1.0)),
        (outcomes("old", *[1.0] * 18, 3.0, 3.0), Expected(1.0, 3.0)),
        ([*outcomes("old", *[1.0] * 40), *outcomes("now", *[4.0] * 4)], Expected(1.0, 4.0)),
        ([*outcomes("old", *[1.0] * 40), *outcomes("now", 4.0, 4.0, 5.0, 4.0, 9.0)], Expected(4.0, 5.0)),
    ],
)
def test_the_open_run_decides_from_five_calls_on_and_earlier_ones_from_twenty(calls, expected):
    """Else the configured time holds, of which nothing better is known."""
    assert expect(calls, "now") == expected
