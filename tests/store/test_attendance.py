"""Whose configuration is in force, by the register and the lease."""

from __future__ import annotations

from rlm.admin.conditions import leader, revision_in_force, ticks_every_seconds
from rlm.ledger.processes import Process, Role


def enter(store, name, revision, ticks_every):
    """Let a scheduler announce itself."""
    entry = Process(name, 7, name.partition(":")[0], 1.0, revision=revision, ticks_every=ticks_every)
    store.processes.announce(Role.SCHEDULER, entry)


def test_the_configuration_in_force_is_that_of_the_scheduler_that_leads(store):
    """Not that of the file that was read here, nor of the standby that has been there for longest."""
    settings = store.settings
    assert (ticks_every_seconds(store), revision_in_force(store)) == (settings.run.every_seconds, settings.revision)
    enter(store, "h:1:a", settings.revision, 77.0)
    enter(store, "h:2:b", "another", 12.0)

    store.leases.acquire("h:2:b", 20.0)

    assert leader(store).id == "h:2:b"
    assert (ticks_every_seconds(store), revision_in_force(store)) == (12.0, "another")
