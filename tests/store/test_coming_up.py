"""How long workers take to come up: noted by who conducts, and counted on where no worker is ready."""

from __future__ import annotations

import pytest

from rlm.admin.planning import COMING_UP_SECONDS, START_SECONDS, start_seconds
from rlm.core.clock import system_clock
from rlm.ledger.processes import Process, Role, WorkerState


def test_it_is_taken_for_usual_where_it_was_never_measured(store):
    """A plan without workers does not promise a call at once."""
    assert store.processes.coming_up_seconds() is None
    assert start_seconds(store) == COMING_UP_SECONDS


def test_what_was_measured_is_averaged_with_what_was_known(store):
    """One slow start does not count for ever, nor does one quick one."""
    for seconds in (6.0, 2.0):
        store.processes.note_coming_up(seconds)

    assert start_seconds(store) == pytest.approx(4.0)


def test_where_a_worker_is_ready_nothing_is_waited_for(store):
    """A message travels, that is all."""
    store.processes.note_coming_up(6.0)
    store.processes.announce(Role.WORKER, Process("w", 1, "host", system_clock.now(), WorkerState.READY, 5))

    assert start_seconds(store) == START_SECONDS
