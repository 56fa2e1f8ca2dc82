"""The living processes: who is heard, and who is not."""

from __future__ import annotations

import pytest

from rlm.ledger.processes import Process, Role, WorkerState
from tests.store import looks, steps
from tests.values import replace

pytestmark = pytest.mark.both_servers

WORKER = Process("host:7:a", 7, "host", 1_700_000_000.25, WorkerState.READY, 5, "revision", "host:1:b")


@pytest.mark.parametrize("role", list(Role))
def test_a_process_that_is_heard_of_no_more_is_gone(store, role):
    """That it never signed off is known until somebody has cleaned up after it."""
    other = replace(WORKER, id="other")
    for process in (WORKER, other):
        store.processes.announce(role, process)
    steps.silence(store, role, WORKER.id)

    [heard] = store.processes.register().living(role)
    assert replace(heard, said_at=0.0) == other
    assert looks.missing(store, role) == [WORKER.id]
    store.processes.forget(role, WORKER.id)
    assert looks.missing(store, role) == []
    assert store.client.hkeys(store.keys.processes) == [f"{role} other".encode()]


@pytest.mark.parametrize("ahead", [-3_600_000_000, 3_600_000_000])
def test_after_a_step_of_the_clock_who_lives_is_heard_again_soon(store, ahead):
    """A moment that lies ahead is no better than one long ago: the dead would seem alive for an hour."""
    store.processes.announce(Role.WORKER, WORKER)
    field = f"{Role.WORKER} {WORKER.id}"
    at, _, entry = store.client.hget(store.keys.processes, field).partition(b" ")
    store.client.hset(store.keys.processes, field, b"%d %s" % (int(at) + ahead, entry))
    assert looks.missing(store, Role.WORKER) == [WORKER.id]

    store.processes.announce(Role.WORKER, WORKER)

    assert [process.id for process in store.processes.register().living(Role.WORKER)] == [WORKER.id]
