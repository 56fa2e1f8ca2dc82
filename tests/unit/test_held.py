"""What the lanes of a worker hold, from their notes."""

from __future__ import annotations

import pytest

from rlm.ledger.held import Lane, lanes_of, read_held


def test_a_lane_without_a_call_is_not_busy():
    """Only the number of its last ask is noted."""
    assert read_held(b"17") is None
    assert lanes_of({b"1": b"17", b"2": b"3"}) == []


def test_the_longest_running_call_comes_first():
    """The id of an event may have colons."""
    notes = {b"1": b"17 2 api 200 i:1:T", b"2": b"4", b"3": b"9 1 other 100 i2:T"}

    assert lanes_of(notes) == [Lane("i2:T", "other", 100, 1), Lane("i:1:T", "api", 200, 2)]


@pytest.mark.parametrize("raw", [b"", b"x", b"1 2", b"1 2 api now i1:T", b"1 x api 5 i1:T", b"1 2 api 5 i1:T more"])
def test_any_other_note_is_refused(raw):
    """Somebody else wrote it."""
    with pytest.raises(ValueError):  # of several kinds
        read_held(raw)
