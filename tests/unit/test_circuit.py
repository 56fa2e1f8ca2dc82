"""The state of a circuit, in one word: the worst reason why no call goes comes first."""

from __future__ import annotations

import pytest

from rlm.circuit import Circuit, circuit_of
from rlm.store.window import View


@pytest.mark.parametrize(
    ("view", "state"),
    [
        (View(3, 0, 0), Circuit.CLOSED),
        (View(0, 20, 0), Circuit.CLOSED),
        (View(1, 0, 0, suspect=True), Circuit.HALF_OPEN),
        (View(0, 20, 0, suspect=True), Circuit.HALF_OPEN),
        (View(0, 20, 20, suspect=True), Circuit.OPEN),
        (View(0, 20, 20, paused_seconds=20), Circuit.PAUSED),
        (View(0, 90, 90, suspect=True, paused_seconds=20), Circuit.PAUSED),
        (View(0, 90, 90, suspect=True, held_seconds=20, paused_seconds=90), Circuit.HELD),
    ],
)
def test_the_state_is_told_by_what_stands_in_the_way(view, state):
    """A full window alone is no reason to call a circuit open."""
    assert circuit_of(view) is state
