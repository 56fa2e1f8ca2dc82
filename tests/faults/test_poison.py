"""An event that kills every worker that takes it is set aside, and all events that shared a worker with it are done."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest

from rlm.core.item import Reason
from rlm.ledger.events import POISON_DEATHS
from rlm.ledger.processes import lanes_of
from tests.faults.test_processes_die import assert_next_run
from tests.wait import wait_until

pytestmark = pytest.mark.rest


class Poison:
    """Kills the worker that has the event in hand, at once, `most` times; counts how often.

    It stops a worker before it looks again and kills it: while this process waits for the processor, the event may be
    answered, and killing the next one would be no death of this event.
    """

    def __init__(self, system, event_id, most=POISON_DEATHS):
        self.most = most
        self.system = system
        self.event_id = event_id
        self.killed = []

    def strike(self):
        """Kill the worker that holds the event now, if any; return the number of dead letters by then."""
        store = self.system.store
        for worker in store.processes.register().living("worker"):
            if len(self.killed) < self.most and worker.pid not in self.killed and self.holds(worker):
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGSTOP)
                    store.client.ping()  # what it had sent before is carried out by then
                    dies = self.holds(worker)
                    os.kill(worker.pid, signal.SIGKILL if dies else signal.SIGCONT)
                    self.killed += [worker.pid] if dies else []
        return store.letters.count()

    def holds(self, worker):
        """Return whether a worker has the event."""
        store = self.system.store
        notes = store.client.hgetall(store.keys.held(worker.id))
        return any(lane.event_id == self.event_id for lane in lanes_of(notes))


@pytest.mark.parametrize("workers", [1, pytest.param(3, marks=pytest.mark.long)])
def test_a_poison_event_is_set_aside_and_its_mates_are_done(make_system, workers):
    """With one worker all lanes die with it, thrice; its mates are carried again, and none is taken for poison."""
    with make_system(env={"RLM_WORKERS__MIN": str(workers), "RLM_WORKERS__MAX": str(workers)}) as system:
        system.start_both()
        wait_until(lambda: len(system.workers()) == workers, timeout=30, message="the workers are ready")
        events = system.push_evenly(40)
        poison = Poison(system, f"e0:{system.types[0]}")
        run_id = system.ask_for_run()

        wait_until(poison.strike, timeout=20, message="the event is a dead letter")

        record = system.await_record(run_id)
        (letter,) = system.letters()
        assert (letter["event_id"], letter["reason"]) == (f"e0:{system.types[0]}", Reason.POISON)
        assert len(poison.killed) == POISON_DEATHS == record["workers"]["restarted"]
        assert (record["counts"]["completed"], record["counts"]["failed"], record["counts"]["leftover"]) == (39, 1, 0)
        assert record["duration_seconds"] < system.settings.run.window_seconds, "its successors came too late"
        system.assert_promises(events, [record])
        assert_next_run(system)


@pytest.mark.long
def test_an_event_one_death_short_of_poison_is_sent(make_system):
    """Two workers are killed that have it; the third sends it like any other."""
    env = {"RLM_WORKERS__MIN": "1", "RLM_WORKERS__MAX": "1", "RLM_WORKERS__THREADS": "4"}
    with make_system(env=env) as system:
        system.start_both()
        wait_until(lambda: len(system.workers()) == 1, timeout=30, message="the worker is ready")
        events = system.push_evenly(48)
        poison = Poison(system, f"e0:{system.types[0]}", POISON_DEATHS - 1)
        run_id = system.ask_for_run()

        def struck():
            poison.strike()
            return len(poison.killed) == POISON_DEATHS - 1

        wait_until(struck, timeout=20, message="two workers died of it")

        record = system.await_record(run_id)
        assert (record["counts"]["failed"], record["counts"]["leftover"]) == (0, 0)
        system.assert_promises(events, [record])
        assert_next_run(system)
