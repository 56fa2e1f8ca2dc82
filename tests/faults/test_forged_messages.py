"""Another program writes to the broker's queue: no lane ends, no worker is lost, and every event is done."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from actors import messages
from actors.messages import QUEUE
from rlm.ledger.processes import Role
from tests.faults.test_processes_die import assert_next_run
from tests.wait import wait_until

pytestmark = pytest.mark.rest


def message(**fields):
    """Return a message like RLM's, for an unknown run, except these fields."""
    genuine = messages.message_for(messages.DISPATCH, "no run").asdict()
    return json.dumps({**genuine, "options": {"redis_message_id": str(uuid4())}, **fields}).encode()


def forge(system, run_id=""):
    """Put one message of each kind into the queue; RLM could have written the last two itself."""
    bodies = [
        *(None, b"\xff", b"[]", b"x" * 1_000_000, message(queue_name="another"), message(actor_name="stranger")),
        *(message(kwargs={"number": 1}), message(args=[1]), message(message_id=[]), message(options={})),
        *(message(options={"redis_message_id": "r", "eta": 10**15}), message(options={"redis_message_id": {}})),
        *(message(args=[f"x:{system.types[0]}", run_id, 1]), message(args=[run_id])),
        message(actor_name=messages.LEFTOVERS, args=[run_id]),
    ]
    queue = f"{system.store.keys.dramatiq}:{QUEUE}"
    for body in bodies:
        name = str(uuid4())
        if body is not None:
            system.store.client.hset(f"{queue}.msgs", name, body)
        system.store.client.rpush(queue, name)
    system.store.processes.wake("workers")


def test_forged_messages_end_no_lane_and_every_event_is_done(make_system):
    """More of each kind than there are lanes, before a run and in it: the same workers do all of it and the next."""
    with make_system(env={"RLM_WORKERS__MIN": "2", "RLM_WORKERS__MAX": "2"}) as system:
        system.start_both()
        wait_until(lambda: len(system.workers()) == 2, timeout=30, message="the workers are ready")
        workers = set(system.workers())
        for _ in range(3):
            forge(system)
        events = system.push_evenly(40)
        run_id = system.ask_for_run()
        for done in range(0, 40, 4):
            wait_until(lambda done=done: len(system.answered()) >= done, timeout=30, message="events are done")
            forge(system, run_id)

        record = system.await_record(run_id)
        assert (record["counts"]["completed"], record["counts"]["leftover"]) == (40, 0)
        assert set(system.workers()) == workers
        assert record["workers"]["restarted"] == 0
        system.assert_promises(events, [record])
        assert_next_run(system)
        assert {one.pid for one in system.store.processes.alive(Role.WORKER)} == workers
        assert "Traceback" not in system.log("supervisor")
        assert system.log("supervisor").count("not RLM's is dropped") <= 2 * 2  # once a minute and worker
