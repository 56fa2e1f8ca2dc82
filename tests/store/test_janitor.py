"""Housekeeping: unfreed data of dead workers is removed between runs, and no data of living ones."""

from __future__ import annotations

import pytest

from rlm.core.errors import FencedError
from rlm.ledger.processes import Process, Role
from scheduler import housekeeping as cleaning
from scheduler.housekeeping import Housekeeper
from scheduler.office import LEASE_SECONDS, Office
from tests.store import looks, steps
from tests.values import record_from

DEAD = Process("dead-host:7:a:1", 7, "dead-host", 1.0, "ready", 5)


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock, which the test advances."""
    real, ahead = cleaning.system_clock.monotonic, [0.0]
    monkeypatch.setattr(cleaning.system_clock, "monotonic", lambda: real() + ahead[0])

    def forward(seconds):
        ahead[0] += seconds

    return forward


@pytest.fixture
def leader(store, left):
    """This process's claim, taken over from the conductor of the closed run."""
    store.leases.release(steps.CONDUCTOR)
    office = Office(store, None, allow_volatile=True)
    assert office.campaign()
    return office


@pytest.fixture
def janitor(store, leader):
    return Housekeeper(leader)


@pytest.fixture
def left(store, token, running):
    """A worker got a call; then its host died, and the run was closed."""
    run = running(2)
    before = looks.snapshot(store)
    store.processes.announce(Role.WORKER, DEAD)
    steps.claim(store, DEAD.id)
    steps.silence(store, Role.WORKER, DEAD.id)
    steps.finish(store, token, run)
    assert store.runs.close(run.id, record_from(), store.runs.tally(), wanted=0) == 1
    return before


def test_what_a_dead_worker_left_is_removed(store, janitor, clock, left):
    """Once no lease of its can be running: its calls, its heartbeat, its name."""
    assert store.client.hlen(store.keys.held(DEAD.id)) == 1
    janitor.step()
    assert looks.missing(store, Role.WORKER) == [DEAD.id]

    clock(60)
    janitor.step()

    assert looks.missing(store, Role.WORKER) == []
    assert [key for key in looks.snapshot(store) if "held" in key or "worker" in key] == []
    assert looks.counts(store).pending == 2


def test_a_conductor_that_was_stopped_meanwhile_frees_nobody(store, janitor, leader, clock, left, monkeypatch):
    """Stopped between looking and freeing: another conducts by now, and the worker came back in that one's run."""
    janitor.step()
    clock(60)
    look = store.processes.register

    def look_and_be_stopped():
        missing = look()
        clock(LEASE_SECONDS + 1)
        store.leases.release(leader.owner)
        assert store.leases.contend("another", 600).token
        store.processes.announce(Role.WORKER, DEAD)
        return missing

    monkeypatch.setattr(store.processes, "register", look_and_be_stopped)
    with pytest.raises(FencedError):
        janitor.step()

    assert [process.id for process in store.processes.register().living(Role.WORKER)] == [DEAD.id]
    assert store.client.hlen(store.keys.held(DEAD.id)) == 1
