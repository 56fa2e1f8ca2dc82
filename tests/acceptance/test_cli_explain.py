"""`rlm explain`: where an event is, why it waits, its attempts; on a real server."""

from __future__ import annotations

from rlm.core.call import CallEnd, Heard
from rlm.ledger.processes import Process, Role
from tests.store import looks, steps, windows

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


def tell(inst, event=EVENT):
    """Return the state and the sentence."""
    found = inst.json("explain", event)
    return found["state"], found["sentence"].removeprefix(f"{event} ")


# -- in an open run


def test_paused_held_and_resting_endpoints_are_told_apart(inst):
    """Each for its own reason, and one of them until somebody resumes it."""
    inst.push(*steps.items(1, steps.TYPE))
    inst.start_run()
    conducted(inst)
    fill(inst)
    later = looks.redis_us(inst.store) + 100_000_000
    primary, first, second, _ = endpoints(inst)
    inst.store.control.pause(primary, "somebody")
    windows.set_record(inst.store, first, hold=later)
    windows.set_record(inst.store, second, rest=later, since=later)

    found = inst.json("explain", EVENT)

    assert [one["health"] for one in found["endpoints"]] == ["paused", "held", "resting", "full"]
    assert found["endpoints"][0]["next_slot_seconds"] is None
    assert "no endpoint lets a call through (1 paused, 1 held, 1 resting, 1 full); " in found["sentence"]
    assert "until resumed" in inst.rlm("explain", EVENT).stdout


def test_an_event_in_back_off_says_how_long_and_what_it_has_behind_it(inst):
    """Each attempt stands in the list; what comes from outside cannot command the terminal."""
    inst.push(*steps.items(1, steps.TYPE))
    inst.start_run(window_seconds=600)
    store, heard = inst.store, Heard("HTTP 500: \x1b[2J\nbad", 2.5)
    steps.settle(store, steps.claim(store), "ready", CallEnd.THROTTLED, heard=Heard("HTTP 429", 0.1))
    steps.settle(store, steps.claim(store), "ready")
    steps.fail(store, steps.claim(store), "backoff", delay_us=60_000_000, heard=heard)

    state, sentence = tell(inst)
    found = inst.json("explain", EVENT)
    shown = inst.rlm("explain", EVENT).stdout

    assert state == "backing_off"
    assert sentence.startswith("waits ")
    assert sentence.endswith((" s before its 2nd attempt (back-off)", " min before its 2nd attempt (back-off)"))
    assert [(one["answer"], one["seconds"]) for one in found["attempts"]] == [("throttled", 0.1), ("error", 2.5)]
    assert found["calls"] == 2
    assert "HTTP 500: \\u001b[2J bad" in shown
