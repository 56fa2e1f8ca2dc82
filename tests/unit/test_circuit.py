"""The state of a circuit, in one word: the worst reason against a call comes first."""

from __future__ import annotations

from rlm.core.window import Circuit, WindowState, circuit_of
from tests.each import each


@each(
    ("view", "state"),
    [
        (WindowState(3, 0, 0), Circuit.OK),
        (WindowState(0, 20, 0), Circuit.FULL),
        (WindowState(1, 0, 0, suspect=True), Circuit.PROBING),
        (WindowState(0, 20, 0, suspect=True), Circuit.PROBING),
        (WindowState(0, 20, 20, suspect=True), Circuit.RESTING),
        (WindowState(0, 20, 20, paused_seconds=20), Circuit.PAUSED),
        (WindowState(0, 90, 90, suspect=True, paused_seconds=20), Circuit.PAUSED),
        (WindowState(0, 90, 90, suspect=True, held_seconds=20, paused_seconds=90), Circuit.HELD),
    ],
)
def test_the_state_is_told_by_what_stands_in_the_way(view, state):
    assert circuit_of(view) is state


def test_one_whose_budget_is_full_has_no_slot_either():
    full, paused = WindowState(0, 20, 0), WindowState(0, 20, 20, paused_seconds=20)

    assert circuit_of(WindowState(3, 0, 0), full) is Circuit.FULL
    assert circuit_of(WindowState(3, 0, 0), paused) is Circuit.OK
    assert circuit_of(WindowState(0, 20, 20), full) is Circuit.RESTING
