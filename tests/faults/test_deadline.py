"""A run is closed within a second of its deadline, whichever process that could close it dies just then."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

import pytest

from rlm.delivery.run_end import REDIS_AWAY
from rlm.ledger.leases import present
from tests.faults.test_takeover import SilentProxy, cut_off, freeze, kill, start_standby
from tests.values import as_json
from tests.wait import wait_until

#: The contract's: a run closes so soon after its deadline, seconds.
LATE_SECONDS = 1.0
#: The same after Redis, which was away past it, is back.
BACK_SECONDS = 2.0
WINDOW_SECONDS = 6.0
#: When the fault strikes, seconds from the deadline.
MOMENTS = (-3.0, -2.0, -1.0, -0.3, 0.02)
#: More events than a window's calls, so that calls are under way until its end.
DOCUMENT = """
[types.A]
rate_limit = "10/second"
processing_seconds = 0.5
endpoints = [{ name = "a1", url = "http://127.0.0.1:1/a1" }, { name = "a2", url = "http://127.0.0.1:1/a2" }]
"""
MORE_THAN_FIT = 300


def all_but_one_worker(system, proxy) -> None:
    """Kill the scheduler, the supervisor and its workers, but not the worker that was started by hand."""
    pids = set(system.workers()) - {system.processes["hand"].pid}
    for name in ("supervisor", "scheduler"):
        process = system.processes.pop(name)
        process.kill()
        process.wait()
    for pid in pids:
        with suppress(ProcessLookupError):  # it has left, because its supervisor is gone
            os.kill(pid, signal.SIGKILL)


@contextmanager
def busy_run(make_system, *others: str, far: Iterable[str] = ("scheduler",)):
    """A system in a run that exceeds its window; `others` are additional processes.

    Those in `far` reach Redis through the proxy.
    """
    env = {"RLM_RUN__WINDOW_SECONDS": str(WINDOW_SECONDS), "RLM_WORKERS__MIN": "2"}
    with ExitStack() as stack:
        system = stack.enter_context(make_system(document=DOCUMENT, env=env, speed=1.0))
        proxy = stack.enter_context(SilentProxy(system.store.client.connection_pool.connection_kwargs["path"]))
        system.redis_of.update(dict.fromkeys(far, f"redis://127.0.0.1:{proxy.port}/0"))
        system.start_both()
        if "standby" in others:
            start_standby(system)
        if "hand" in others:
            system.start("hand", "worker", "start")
        system.api.set_fault("a2", hang=0.1)  # so that calls are under way at the deadline
        workers = 2 + ("hand" in others)
        wait_until(lambda: len(system.workers()) == workers, timeout=40, message="the workers are ready")
        ids = system.push_evenly(MORE_THAN_FIT)
        run_id = system.ask_for_run()
        wait_until(lambda: len(system.api.arrivals) > 10, timeout=30, message="calls are made")
        yield system, proxy, run_id, ids


def left_seconds(system) -> float:
    """Return the seconds to the deadline of the open run."""
    there = present(system.store)
    return there.run.left_seconds(there.now_us)


CASES = [
    pytest.param(fault, others, moment, id=f"{fault.__name__} {''.join(others)} {moment:+g}", marks=mark)
    for fault, *others in ((kill, "standby"), (kill,), (freeze,), (cut_off,), (all_but_one_worker, "hand"))
    for moment in MOMENTS
    for mark in (pytest.mark.rest if fault is kill and moment == -0.3 else pytest.mark.long,)
]


@pytest.mark.parametrize(("fault", "others", "moment"), CASES)
def test_a_run_is_closed_in_time(make_system, fault, others, moment):
    """Its books balance, and it is closed once: also if the one that led comes back, which then changes nothing."""
    with busy_run(make_system, *others) as (system, proxy, run_id, ids):
        time.sleep(max(0.0, left_seconds(system) + moment))
        fault(system, proxy)
        record = system.await_record(run_id, timeout=20)
        late = seconds(record["finished_at"]) - seconds(record["deadline"])
        report(f"{fault.__name__} {' '.join(others)} {moment:+g}: closed {late:+.2f} s")
        assert late < LATE_SECONDS

        proxy.silent = False
        if fault is freeze:
            system.processes["scheduler"].send_signal(signal.SIGCONT)
        if "scheduler" not in system.processes and not others:
            system.start("scheduler")
        if "hand" not in others:
            again = system.await_record(system.ask_for_run(), timeout=30)
            assert again["counts"]["carried_over"] == record["counts"]["leftover"]
        assert as_json(system.store.runs.record(run_id)) == record
        assert system.store.runs.history(10)[-1] == run_id
        system.assert_promises(ids, [record])


@pytest.mark.long
@pytest.mark.parametrize("dead", [False, True], ids=["the leader lives", "the leader is killed"])
def test_a_run_is_closed_soon_after_redis_is_back(make_system, dead):
    """It was away past the deadline: that is why the run failed, whoever closes it."""
    with busy_run(make_system, far=("scheduler", "supervisor")) as (system, proxy, run_id, ids):
        time.sleep(left_seconds(system) - 1)
        if dead:
            kill(system, proxy)
        proxy.refuse()
        wait_until(lambda: left_seconds(system) < -2, timeout=20, message="the deadline is over")
        proxy.accept()
        back = system.store.now()
        record = system.await_record(run_id, timeout=20)
        late = seconds(record["finished_at"]) - back
        report(f"redis away, {'leader killed' if dead else 'leader alive'}: closed {late:+.2f} s after its return")
        assert late < BACK_SECONDS
        assert (record["state"], record["failure"]) == ("failed", REDIS_AWAY)
        system.assert_promises(ids, [record])


def seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def report(text: str) -> None:
    """Write a figure to a file if one was asked for."""
    if place := os.environ.get("DEADLINE_OUT"):
        with Path(place).open("a") as out:
            out.write(f"{text}\n")
