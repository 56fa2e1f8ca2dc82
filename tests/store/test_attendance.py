"""Which processes can do a run, by the register and by the configuration of the leading scheduler."""

from __future__ import annotations

import pytest

from rlm.admin.attendance import (
    NO_SUPERVISOR,
    leader,
    nobody_sends,
    revision_in_force,
    ticks_every_seconds,
)
from rlm.ledger.processes import Process, Role, WorkerState


def enter(store, role, name, revision=None, **facts):
    """Let a process announce itself, with the configuration of the store by default."""
    revision = store.settings.revision if revision is None else revision
    store.processes.announce(role, Process(name, 7, name.partition(":")[0], 1.0, revision=revision, **facts))


@pytest.mark.parametrize(
    ("role", "revision", "state", "told"),
    [
        (None, None, "", NO_SUPERVISOR),
        (Role.SUPERVISOR, None, "", ""),
        (Role.SUPERVISOR, "", "", ""),  # it does not say what it has
        (Role.SUPERVISOR, "another", "", "every supervisor has another configuration"),
        (Role.WORKER, None, WorkerState.READY, ""),  # started by hand
        (Role.WORKER, None, WorkerState.STOPPING, NO_SUPERVISOR),
        (Role.WORKER, "another", WorkerState.READY, NO_SUPERVISOR),
    ],
)
def test_a_run_is_promised_only_by_who_could_send(store, role, revision, state, told):
    """By what is heard from them, and by whether they would claim anything; what they do not say is not counted."""
    if role is not None:
        enter(store, role, "h:1:a", revision, state=state)

    found = nobody_sends(store)

    assert (found[: len(told)], bool(found)) == (told, bool(told))


def test_the_configuration_in_force_is_that_of_the_scheduler_that_leads(store):
    """Not that of the file that was read here, nor of the standby that has been there for longest."""
    assert (ticks_every_seconds(store), revision_in_force(store)) == (
        store.settings.run.every_seconds,
        store.settings.revision,
    )
    enter(store, Role.SCHEDULER, "h:1:a", ticks_every=77.0)
    enter(store, Role.SCHEDULER, "h:2:b", "another", ticks_every=12.0)

    store.leases.acquire("h:2:b", 20.0)

    assert leader(store).id == "h:2:b"
    assert (ticks_every_seconds(store), revision_in_force(store)) == (12.0, "another")
    assert nobody_sends(store) == NO_SUPERVISOR
