"""`rlm explain`: where an event is, why it waits, its attempts; on a real server."""

from __future__ import annotations

from rlm.ledger.processes import Process, Role
from tests.store import steps, windows

EVENT = steps.event_id(1)


def endpoints(inst):
    """The endpoints of the type, primary first."""
    return inst.settings.event_types[0].endpoints


def fill(inst, *, but=0, since=0.0):
    """Fill the windows of the type's endpoints, except `but` slots of the last; the third's since `since` seconds."""
    for endpoint in endpoints(inst):
        windows.take(inst.store, endpoint, 30 - (but if endpoint is endpoints(inst)[-1] else 0))
    windows.pass_time(inst.store, endpoints(inst)[2], since)


def work(inst, threads=5):
    """Register a ready worker with that many lanes."""
    worker = Process("worker-1", 1, "host", 0.0, "ready", threads, inst.settings.revision)
    inst.store.processes.announce(Role.WORKER, worker)


def conducted(inst):
    """Register a scheduler beside the worker."""
    work(inst)
    inst.store.processes.announce(
        Role.SCHEDULER, Process("scheduler-1", 1, "host", 0.0, revision=inst.settings.revision)
    )


def test_paused_held_and_resting_endpoints_are_told_apart(inst):
    """Each for its own reason, and one of them until somebody resumes it."""
    inst.push(*steps.items(1, steps.TYPE))
    inst.start_run()
    conducted(inst)
    fill(inst)
    later = inst.store.now_us() + 100_000_000
    primary, first, second, _ = endpoints(inst)
    inst.store.control.pause(primary, "somebody")
    windows.set_record(inst.store, first, hold=later)
    windows.set_record(inst.store, second, rest=later, since=later)

    found = inst.json("explain", EVENT)

    assert [one["health"] for one in found["endpoints"]] == ["paused", "held", "resting", "full"]
    assert found["endpoints"][0]["next_slot_seconds"] is None
    assert "no endpoint lets a call through (1 paused, 1 held, 1 resting, 1 full); " in found["sentence"]
    assert "until resumed" in inst.rlm("explain", EVENT).stdout
