"""Each process is killed at each crash point: another continues at once, nothing is lost, doubled or exceeded.

A takeover mostly waits for a lease to expire, so several systems are played side by side.
"""

from __future__ import annotations

import os
import re
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from rlm.delivery.attempt import Kind
from tests.faults.crashes import PAIR, crashing, side_by_side
from tests.faults.test_processes_die import assert_next_run
from tests.leftbehind import nothing_left_behind
from tests.values import as_json
from tests.wait import wait_until

pytestmark = pytest.mark.rest

#: A run goes on, or is closed if it is overdue, within so many seconds of its conductor's death.
TAKEOVER_SECONDS = 5.0
#: A dead worker's events are pending again within this many seconds.
FREED_SECONDS = 1.0
#: Workers without a supervisor have left within this many seconds.
ORPHANED_SECONDS = 5.0

#: All crash points of the code.
POINTS = sorted(
    {
        point
        for folder in ("rlm", "actors", "scheduler")
        for file in (Path(__file__).parents[2] / folder).rglob("*.py")
        for point in re.findall(r'crash_point\("([\w.]+)"\)', file.read_text())
    }
)
CONDUCTED = tuple(name for name in POINTS if name.split(".")[0] not in {"tick", "worker", "supervisor"})
#: Where a lane begins, which is when its worker does.
FETCHED = "worker.fetched"
#: Where a worker makes its first call to a host; it keeps that connection.
CONNECTED = "worker.connected"
#: With these no call is under way that could be made again.
UNSENT = ("worker.claimed", "worker.slot_taken", "worker.settled")
SENT = ("worker.sent", "worker.answered")

EVENTS = 40
#: Items of which most are taken while calls are made, and the chunk at which that goes on.
LONG_LIST, IN_MID_RUN = 30_000, 200
#: Seconds from one tick to the next, where there are any.
TICK = 7
#: The period of the limits here, which are those of the built-in types at the speed of a `System`.
PERIOD_SECONDS = 6.0
#: A window that no run here fills, however busy the machine.
IN_TIME = {"RLM_RUN__WINDOW_SECONDS": "150"}


@pytest.fixture
def place(tmp_path):
    """A directory for systems, of which nothing is left running afterwards."""
    with nothing_left_behind(tmp_path):
        yield tmp_path


@pytest.mark.timeout(600)  # a minute on a quiet machine
def test_a_scheduler_killed_at_any_point_is_succeeded_within_five_seconds(place):
    """Wherever a scheduler dies the standby goes on: one record, all done; an overdue run is closed, the rest left."""
    side_by_side(
        {
            "ticks": partial(play_ticks, place / "t"),
            "first": partial(play_points, place / "a", CONDUCTED[0::3]),
            "second": partial(play_points, place / "b", CONDUCTED[1::3]),
            "third": partial(play_points, place / "d", CONDUCTED[2::3]),
            "overdue": partial(play_points, place / "c", OVERDUE, window_seconds=2.0),
        }
    )


#: Where a scheduler comes by that ends and closes a run itself, such as one that was cancelled.
ENDING = ("finish.", "close.")
#: Where a scheduler dies whose run is overdue when the standby takes over.
OVERDUE = ("drain.staged", "plan.written", "close.returned", "close.counted")


#: Where a scheduler of a larger run dies: at every point the first time, in halves, or where it comes by once more.
BEGUN = [name for name in CONDUCTED if not name.startswith(ENDING)]
PASSAGES = {"1 even": BEGUN[0::2], "1 odd": BEGUN[1::2]} | {
    str(passage): [f"drain.chunk_taken:{passage}"] for passage in (2, 4)
}


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("window_seconds", [150.0, 2.0], ids=["in time", "overdue"])
@pytest.mark.parametrize("points", PASSAGES.values(), ids=PASSAGES)
def test_a_scheduler_killed_at_a_later_passage_is_succeeded_too(place, points, window_seconds):
    """The same with a run of several chunks and many calls, killed where it comes by for the nth time."""
    play_points(place / "a", points, window_seconds=window_seconds, number=900)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_scheduler_killed_while_calls_are_made_and_a_long_list_is_taken_is_succeeded(place):
    """Its successor takes the rest into the same run, each item once."""
    with crashing(place, env={"RLM_RUN__WINDOW_SECONDS": "30", "RLM_WORKERS__MIN": "2"}) as system:
        events = system.push_evenly(LONG_LIST)

        record = kill_conductor_at(system, f"drain.chunk_taken:{IN_MID_RUN}", 30.0)

        assert record["counts"]["taken"] == LONG_LIST
        assert record["counts"]["completed"] > 0
        assert sum(system.store.intake.lengths()) == 0
        system.assert_promises(events, [record])


def play_points(directory, points, *, window_seconds=150.0, number=EVENTS):
    """Kill the conductor of a run at one point after the other."""
    env = {"RLM_RUN__WINDOW_SECONDS": str(window_seconds), "RLM_WORKERS__MIN": "2"}
    with crashing(directory, env=env) as system:
        events, records = [], []
        for point in points:
            events += system.push_evenly(number, prefix=point.replace(":", "-"))
            if window_seconds < PERIOD_SECONDS:
                await_slots(system, number)
            records.append(kill_conductor_at(system, point, window_seconds))
            wait_until(
                lambda: system.store.leases.read().ended == records[-1]["run_id"],
                message=f"the end of the run is seen to after {point}",
            )
            if window_seconds > 10 and number <= EVENTS and not point.startswith(ENDING):
                assert records[-1]["counts"]["leftover"] == 0, (point, records[-1]["counts"])
        assert sorted(system.store.runs.history(100)) == sorted(one["run_id"] for one in records), "one record each"
        assert system.letters() == []
        assert len(system.repeats()) <= cut_by_deadlines(records)
        assert_next_run(system)  # it takes first what an overdue run left staged
        system.assert_promises(events, records)


def await_slots(system, number):
    """Wait for a free slot for each of `number` events, or for all: a short run without one ends at once."""
    endpoints = list(system.settings.endpoints.values())
    enough = min(number, sum(one.limit.rules[0].amount for one in endpoints))
    wait_until(
        lambda: sum(one.free for one in system.store.windows.look(endpoints)[1].values()) >= enough,
        timeout=2 * PERIOD_SECONDS,
        message=f"{enough} slots are free",
    )


def cut_by_deadlines(records):
    """Count the calls that a deadline cut: on a busy machine a window of 2 s ends in the middle of some."""
    troubles = [one for record in records for one in record.get("troubles", ())]
    return sum(one["calls"] for one in troubles if one["what"] == Kind.DEADLINE)


def kill_conductor_at(system, point, window_seconds):
    """Kill the conductor of a run at a point; return the record of the run, which its successor finished."""
    system.arm("scheduler", point)
    reply = system.asked()
    if point.startswith(ENDING):  # else a lane has the run closed
        run = wait_until(lambda: (run := system.store.runs.current()) and run.state == "running" and run)
        system.store.runs.cancel(run.id)
        system.store.processes.wake("scheduler")
    died = system.await_crash("scheduler", timeout=20)
    dead = system.dead_scheduler()
    standby = next(name for name in PAIR if name != dead)

    wait_until(
        lambda: system.leader() == system.processes[standby].pid, timeout=30, message=f"{standby} leads after {point}"
    )
    took, led = died.busy, died.seconds
    assert took < TAKEOVER_SECONDS, f"{point}: {took:.2f} s"

    system.start_scheduler(dead)
    answer = wait_until(reply, message="who asked for the run is answered")
    run_id = answer.run_id or answer.open
    record = system.await_record(run_id, timeout=60)
    if window_seconds < led and point != "request.seen":  # that run was opened by the successor
        closed = died.busy
        assert closed < TAKEOVER_SECONDS, f"{point}: closed after {closed:.2f} s"
    system.await_standby()
    return record


def play_ticks(directory):
    """Kill the scheduler where it has a tick: the tick has its run, and one run only."""
    env = {"RLM_RUN__WINDOW_SECONDS": str(TICK), "RLM_RUN__EVERY_SECONDS": str(TICK), "RLM_WORKERS__MIN": "2"}
    with crashing(directory, env=env, ticks=True) as system:
        events = []
        for point in ("tick.due", "run.opened"):
            wait_until(partial(between_ticks, system), timeout=2 * TICK, message="the tick before is done with")
            system.arm("scheduler", point)
            events += system.push_evenly(EVENTS, prefix=point)
            died = system.await_crash("scheduler")
            tick = time.time() // TICK * TICK
            system.start_scheduler(system.dead_scheduler())

            run = wait_until(partial(system.run_of, tick), timeout=30, message=f"the tick has its run after {point}")
            assert died.busy < TAKEOVER_SECONDS
            system.await_record(run)
            system.await_standby()
        wait_until(lambda: set(events) <= set(system.answered()), timeout=20, message="all is done")
        wait_until(lambda: system.store.runs.current() is None, message="the run is closed")
        records = [as_json(system.store.runs.record(run_id)) for run_id in system.store.runs.history(100)]
        assert len(system.repeats()) <= cut_by_deadlines(records)
        system.assert_promises(events, records)
        assert len({one["started_at"] for one in records}) == len(records)


def between_ticks(system):
    """Return whether this tick has been and gone, so that what is pushed now is the next one's, which is not near."""
    phase = time.time() % TICK
    settled = system.store.runs.current() is None and (system.store.leases.read().ticked_at or 0.0) > time.time() - TICK
    return settled and 1.0 < phase < TICK - 2.0


def test_a_worker_killed_at_any_point_is_replaced_and_its_events_are_free_at_once(place):
    """One lane each: its event is pending within a second; nothing is sent again that had not been sent and lost."""
    env = {"RLM_WORKERS__MIN": "6", "RLM_WORKERS__MAX": "6", "RLM_WORKERS__THREADS": "1", **IN_TIME}
    with crashing(place / "w", env=env) as system:
        wait_until(lambda: len(system.workers()) == 6, timeout=30, message="six workers are ready")
        first = system.push_evenly(5, prefix="first")
        asked: list[str] = []
        assert_freed(system, CONNECTED, ask=lambda: asked.append(system.ask_for_run()))
        opened = system.await_record(asked.pop())
        assert opened["counts"]["completed"] == 5
        system.arm("worker", FETCHED)
        os.kill(system.workers()[0], signal.SIGKILL)  # the one in its place dies as well
        system.await_crash("worker")
        wait_until(lambda: len(system.workers()) == 6, timeout=30, message="all are replaced")
        events = system.push_evenly(200)
        asked.append(system.ask_for_run())
        wait_until(lambda: len(system.answered()) > 6, timeout=30, message="calls are made")
        for point in (*UNSENT, *SENT):
            await_others(system)
            assert_freed(system, point)
            assert len(system.repeats()) <= (SENT.index(point) + 1 if point in SENT else 0), point
        assert_freed(system, "worker.leaving", ask=lambda: os.kill(system.workers()[0], signal.SIGTERM))

        system.arm("worker", "worker.closing")
        record = system.await_record(asked[0])
        assert record["counts"]["completed"] == 200
        dead = len(UNSENT) + len(SENT) + 1
        assert record["workers"]["restarted"] in {dead, dead + 1}  # the last one may be noticed after the end
        again = system.push_evenly(5, prefix="again")
        system.arm("worker", "worker.closed")
        second = system.await_record(system.ask_for_run())
        assert second["counts"]["completed"] == 5
        system.await_crash("worker")
        wait_until(lambda: len(system.workers()) == 6, message="all are replaced")
        system.assert_promises([*first, *events, *again], [opened, record, second])
        assert_next_run(system)


def await_others(system):
    """Wait until what the last one that died had in hand is done: an event in whose lease three die is poison."""
    done = len(system.answered())
    wait_until(lambda: len(system.answered()) >= done + 8, timeout=30, message="some more is done")


def assert_freed(system, point, ask=lambda: None):
    """The worker that dies at a point is out of the register, and what it held is free, within a second.

    `ask` makes a worker come by at the point; those that send events need not be asked.
    """
    before = {
        one.id: one.pid for one in system.store.processes.register().living("worker")
    }  # one may die as soon as it is armed
    system.arm("worker", point)
    ask()
    died = system.await_crash("worker")
    gone = wait_until(
        lambda: set(before) - {one.id for one in system.store.processes.register().living("worker")},
        message=f"the worker that died at {point} is given up",
    )
    freed = died.busy
    assert freed < FREED_SECONDS, f"{point}: {freed:.2f} s"
    assert not any(system.store.client.exists(system.store.keys.held(one)) for one in gone)
    wait_until(lambda: len(system.workers()) >= 2, message="there are workers")


@pytest.mark.long
def test_a_supervisor_killed_at_any_point_leaves_no_worker_and_another_goes_on(place):
    """Its workers finish their calls and leave; a new one's go on with the run; what a dead one held comes back."""
    env = {"RLM_WORKERS__MIN": "2", "RLM_WORKERS__MAX": "2", "RLM_WORKERS__THREADS": "2", **IN_TIME}
    with crashing(place / "s", env=env) as system:
        events = system.push_evenly(150)
        run_id = system.ask_for_run()
        points = [name for name in POINTS if name.startswith("supervisor.")]
        for point in points:
            kill_supervisor_at(system, point)

        record = system.await_record(run_id)
        assert record["state"] == "completed"
        assert record["counts"]["completed"] == 150
        assert max(system.repeats().values(), default=1) <= len(points)  # what comes back by its lease is first again
        assert len(system.repeats()) <= 2 * len(points)
        system.assert_promises(events, [record])
        assert_next_run(system)


def kill_supervisor_at(system, point):
    """Kill a worker with calls under way, and its supervisor at a point; start another when the workers have left."""
    await_others(system)
    wait_until(lambda: system.inflight() >= 2, timeout=30, message="calls are under way")
    ready = wait_until(lambda: [pid for pid in system.workers() if alive(pid)], timeout=40, message="one is ready")
    system.arm("worker", point)
    os.kill(ready[0], signal.SIGKILL)
    died = system.await_crash("worker")
    system.processes.pop("supervisor").wait()
    system.start("supervisor")
    children = {one.pid for one in system.store.processes.register().living("worker")} | set(ready)
    wait_until(lambda: not any(map(alive, children)), message=f"the workers of the one that died at {point} have left")
    assert died.busy < ORPHANED_SECONDS


def alive(pid):
    """Return whether a process is alive, and not dead and unreaped."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
