"""Processes are stopped, frozen, or fail to start: RLM distinguishes them, and no run suffers."""

from __future__ import annotations

import os
import signal
import time

import pytest

from rlm.core.clock import isoformat
from tests.faults.test_processes_die import assert_next_run, busiest, calls_held
from tests.values import as_json
from tests.wait import wait_until

pytestmark = pytest.mark.rest

LONG = {"RLM_RUN__WINDOW_SECONDS": "100"}


@pytest.fixture
def patient(make_system):
    """A system whose window no run here fills."""
    with make_system(env=LONG) as made:
        made.start_both()
        yield made


def working(system):
    """Wait for a worker with at least three calls in flight, and return it."""
    return wait_until(
        lambda: next((one for one in busiest(system) if calls_held(system, one) >= 3), None),
        timeout=20,
        message="a worker has three calls under way",
    )


@pytest.mark.long
def test_a_worker_frozen_for_less_than_its_leases_settles_what_it_had_sent(patient):
    """Calls that were under way are settled when it goes on; none is made again, and no stale slot is used."""
    system = patient
    events = system.push_evenly(300)
    run_id = system.ask_for_run()
    worker = working(system)

    for _ in range(3):
        os.kill(worker.pid, signal.SIGSTOP)
        frozen_at = time.monotonic()
        wait_until(lambda: time.monotonic() > frozen_at + 0.6, message="longer than a slot may be old, and any call")  # noqa: B023
        os.kill(worker.pid, signal.SIGCONT)
        done = len(system.answered())
        wait_until(lambda: len(system.answered()) > done + 10, timeout=20, message="the run goes on")  # noqa: B023

    record = system.await_record(run_id)
    assert record["counts"]["completed"] == 300
    assert record["workers"]["restarted"] == 0
    assert "is frozen" not in system.log("supervisor")
    assert not system.repeats()
    system.assert_promises(events, [record])
    assert_next_run(system)


@pytest.mark.long
def test_a_run_whose_workers_all_die_at_their_start_ends_in_time(make_system):
    """Whoever never came up fails the run; everything is left over, and done once workers live."""
    env = {"RLM_RUN__WINDOW_SECONDS": "4", "RLM_WORKERS__MIN": "2", "RLM_WORKERS__MAX": "2"}
    with make_system(env=env, env_of={"supervisor": {"RLM_CRASH_AT": "worker.started"}}) as system:
        system.start_both()
        register = system.store.processes.register
        wait_until(lambda: register().restarts or len(system.workers()) == 2, timeout=40, message="they die or are up")
        events = system.push_evenly(60)
        record = system.await_record(system.ask_for_run())
        system.stop("supervisor")

        assert record["state"] == "failed"
        assert record["counts"]["leftover"] == 60
        assert not system.answered()

        system.start("sound", "supervisor")
        records = [record]
        while records[-1]["counts"]["leftover"]:
            records.append(system.await_record(system.ask_for_run()))
        assert sum(one["counts"]["completed"] for one in records) == 60
        assert not system.repeats()
        system.assert_promises(events, records)
        assert_next_run(system)
        system.stop("scheduler")


@pytest.mark.long
@pytest.mark.alone
def test_a_tick_that_finds_a_run_open_starts_one_when_that_is_closed(make_system):
    """A run begun by hand lasts beyond the next tick, which is remembered: its run follows, and counts from then."""
    every = 4
    env = {"RLM_RUN__WINDOW_SECONDS": str(every), "RLM_RUN__EVERY_SECONDS": str(every)}
    with make_system(env=env, ticks=True) as system:
        system.start_both()
        wait_until(lambda: 2.0 < time.time() % every < 2.6, message="the next tick is nearer than the end of a run")
        events = system.push_evenly(2500)
        first = system.await_record(system.ask_for_run())
        closed_at = time.time()
        tick = closed_at // every * every
        second = wait_until(lambda: following(system, first), message="another run follows")

        assert first["state"] == "partial"
        assert first["started_at"] < isoformat(tick) < first["finished_at"], "a tick came while it was open"
        assert second.started_at == tick
        late = system.await_record(second.id)
        causes = {one["cause"] for one in late["why"]}
        assert causes <= {"slots", "lanes"}, "it was held up, and did not start slowly"
        assert system.stop("scheduler") == 0
        records = [as_json(system.store.runs.record(one)) for one in system.store.runs.history(20)]
        assert len({one["started_at"] for one in records}) == len(records), "one run for each tick"
        assert not system.repeats()
        system.assert_promises(events, records)


def following(system, first):
    run = system.store.runs.current()
    return run if run is not None and run.id != first["run_id"] else None
