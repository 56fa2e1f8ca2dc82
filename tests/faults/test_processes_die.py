"""Processes die during a run: nothing is lost or exceeded, the books balance, the next run is on time."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from rlm.core.clock import timestamp
from rlm.ledger.processes import lanes_of
from tests.stopwatch import Stopwatch
from tests.wait import wait_until


def test_what_a_killed_worker_held_is_pending_at_once_and_all_is_completed(unhurried):
    """A worker is killed with at least three calls under way: its events are free at once, and done by others."""
    system = unhurried
    events = system.push_evenly(400)
    run_id = system.ask_for_run()
    store = system.store
    worker = wait_until(
        lambda: next((one for one in busiest(system) if calls_held(system, one) >= 3), None),
        timeout=30,
        message="a worker has three calls under way",
    )

    os.kill(worker.pid, signal.SIGKILL)
    killed = Stopwatch(*(one.pid for one in system.processes.values()))
    wait_until(lambda: not store.client.exists(store.keys.held(worker.id)), message="its leases are freed")
    freed_after = killed.busy

    record = system.await_record(run_id)
    assert freed_after < 1, f"{freed_after:.3f} s: by a time-out, not by its death"
    assert record["state"] == "completed"
    assert record["counts"]["completed"] == 400
    assert record["workers"]["restarted"] == 1
    assert max(system.repeats().values(), default=1) <= 2
    assert len(system.repeats()) <= 5
    system.assert_promises(events, [record])
    assert_next_run(system)


@pytest.mark.rest
def test_the_template_killed_and_the_whole_group_terminated_cut_no_call(unhurried):
    """KILL for the template, TERM for the supervisor's group: no living worker loses a lease."""
    system = unhurried
    events = system.push_evenly(400)
    run_id = system.ask_for_run()
    wait_until(lambda: system.inflight() >= 5, timeout=30, message="calls are under way")
    supervisor = system.processes["supervisor"]
    template = next(pid for pid in children(supervisor.pid) if "rlm template" in command(pid))

    os.kill(template, signal.SIGKILL)
    wait_until(lambda: state(template) in {"", "Z"}, message="the template is gone")
    wait_until(lambda: len(system.answered()) > 100, timeout=30, message="the workers go on")
    os.killpg(supervisor.pid, signal.SIGTERM)
    assert system.processes.pop("supervisor").wait(20) == 0
    system.start("supervisor")

    record = system.await_record(run_id)
    assert not system.repeats()
    assert record["counts"]["completed"] == 400
    assert record["workers"]["restarted"] == 0
    system.assert_promises(events, [record])
    assert_next_run(system)


def test_a_run_whose_conductor_is_killed_and_not_succeeded_is_done_and_closed_by_a_lane(unhurried):
    """Lanes need no conductor: every event is done, and the run is closed as soon as nothing more can be done."""
    system = unhurried
    events = system.push_evenly(300)
    run_id = system.ask_for_run()
    wait_until(lambda: len(system.answered()) > 50, timeout=30, message="calls are made")

    system.processes["scheduler"].kill()
    system.processes.pop("scheduler").wait()
    record = system.await_record(run_id)

    assert (record["state"], record["counts"]["completed"]) == ("completed", 300), record
    last = max(one.at for one in system.api.arrivals) - time.monotonic() + time.time()
    assert timestamp(record["finished_at"]) - last < 3
    assert not system.repeats()
    system.assert_promises(events, [record])
    system.start("scheduler")
    assert_next_run(system)


@pytest.mark.rest
def test_a_scheduler_told_to_stop_without_a_standby_leaves_its_run_to_the_lanes(unhurried):
    """TERM: calls go on, and a lane has the run closed once all is done."""
    system = unhurried
    events = system.push_evenly(400)
    run_id = system.ask_for_run()
    wait_until(lambda: len(system.answered()) > 100, timeout=30, message="the run is in its middle")

    assert system.stop("scheduler") == 0

    record = system.await_record(run_id)
    assert record["state"] == "completed"
    assert record["counts"]["completed"] == len(system.answered())
    assert not system.repeats()
    system.assert_promises(events, [record])
    system.start("scheduler")
    assert_next_run(system)


@pytest.mark.rest
def test_another_worker_stands_in_for_a_frozen_one_long_before_it_is_killed(make_system):
    """The only worker is frozen between runs: once the register misses it another is ready, and the run is done."""
    with make_system(env={"RLM_WORKERS__MIN": "1", "RLM_WORKERS__MAX": "3"}) as system:
        system.start_both()
        frozen = wait_until(lambda: next(iter(busiest(system)), None), message="a worker is ready")
        os.kill(frozen.pid, signal.SIGSTOP)
        wait_until(lambda: any(one.id != frozen.id for one in busiest(system)), timeout=12, message="another is ready")
        assert state(frozen.pid) == "T"
        events = system.push_evenly(20)
        record = system.await_record(system.ask_for_run())
        assert record["counts"]["completed"] == 20
        system.assert_promises(events, [record])
        assert_next_run(system)


def busiest(system):
    """Return the ready workers, as they are registered."""
    return [one for one in system.store.processes.register().living("worker") if one.state == "ready"]


def calls_held(system, worker):
    """Return how many lanes of a worker have a call."""
    return len(lanes_of(system.store.client.hgetall(system.store.keys.held(worker.id))))


def children(pid):
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def command(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def assert_next_run(system):
    """Check that the next run starts on request or by its tick, and that pushed events are done in it or wait."""
    events = system.push_evenly(5, prefix=f"next{len(system.pushed)}-")  # of no run before: it would drop duplicates
    request = system.store.schedule.request()
    reply = wait_until(lambda: system.store.schedule.reply(request), timeout=15, message="the scheduler answers")
    record = system.await_record(reply.run_id or reply.open, timeout=30)
    assert record["state"] in {"completed", "partial"}
    wait_until(
        lambda: (
            set(events) <= set(system.answered()) | system.pending()
            or (reply.open and sum(system.store.intake.lengths()))  # that run was begun before
        ),
        message="the next run has what was pushed",
    )
