"""Several hosts: never more workers than `workers.max` over all of them, whatever happens to Redis or a host.

A host is a supervisor with its own name, on one Redis. Workers are counted in the process table, repeatedly, because
the register may have forgotten some.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest

from rlm.core.clock import system_clock
from rlm.ledger.processes import HEARTBEAT_SECONDS, HEARTBEAT_TTL_SECONDS, Role, WorkerState
from tests.values import as_json
from tests.wait import wait_until

pytestmark = pytest.mark.rest

MOST = 12
NAMES = ("a", "b", "c")
SAMPLE_SECONDS = 0.02
ENV = {"RLM_WORKERS__MAX": str(MOST), "RLM_WORKERS__MIN": str(MOST), "RLM_WORKERS__THREADS": "1"}


class Samples:
    """Counts the worker processes of each host repeatedly."""

    def __init__(self, supervisors):
        self.supervisors = supervisors
        self.most, self.worst = 0, {}
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.sample, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_exc):
        self.stopped.set()
        self.thread.join()

    def sample(self):
        while not self.stopped.wait(SAMPLE_SECONDS):
            if (count := sum((now := self.now()).values())) > self.most:
                self.most, self.worst = count, now

    def now(self):
        """Return how many workers each host has: the living forks of its template."""
        return {name: sum(map(self.workers, self.children(pid))) for name, pid in self.supervisors.items()}

    def workers(self, template):
        return sum(self.lives(pid) for pid in self.children(template))

    def children(self, pid):
        try:
            return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            return []

    def lives(self, pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False


@pytest.fixture
def hosts(make_system):
    """Three equal hosts, each with its share of the workers, and the samples."""
    named = {name: {"RLM_HOST__NAME": name} for name in NAMES}
    with make_system(env=ENV, env_of=named) as system:
        for name in NAMES:
            system.start(name, "supervisor")
        with Samples({name: system.processes[name].pid for name in NAMES}) as samples:
            settle(samples, dict.fromkeys(NAMES, MOST // 3))
            samples.most = 0
            system.samples = samples
            yield system


def settle(samples, expected, timeout=40):
    """Wait until each host has the expected workers."""
    wait_until(lambda: samples.now() == expected, timeout=timeout, message=f"the workers are {expected}")


def forget_all_that_expires(store):
    """Delete everything that expires, like a clock that is set forward."""
    for key in store.client.scan_iter(f"{store.settings.redis.prefix}:process:*"):
        store.client.delete(key)


def seconds_until(samples, expected, timeout=40):
    """Return the seconds until each host has the expected workers."""
    began = system_clock.monotonic()
    settle(samples, expected, timeout)
    return system_clock.monotonic() - began


def test_a_clock_step_moves_no_worker(hosts):
    """All entries end at once, and each host runs what it ran."""
    for _ in range(3):
        forget_all_that_expires(hosts.store)
        wait_until(
            lambda: len(hosts.store.processes.register().living(Role.SUPERVISOR)) == 3, message="all say that they live"
        )
    wait_until(
        lambda: len(hosts.store.processes.register().living(Role.WORKER)) == MOST, message="all workers say so, too"
    )

    assert hosts.samples.now() == dict.fromkeys(NAMES, MOST // 3)
    assert hosts.samples.most <= MOST, hosts.samples.worst


def test_at_full_load_no_host_takes_much_more_than_its_share(make_system):
    """Rule 19: the slots bind, and whoever has just got a call lets others go first."""
    named = {name: {"RLM_HOST__NAME": name} for name in NAMES}
    with make_system(env={**ENV, "RLM_WORKERS__THREADS": "5"}, env_of=named) as system:
        system.start("scheduler")
        for name in NAMES:
            system.start(name, "supervisor")
        wait_until(lambda: len(system.workers()) == MOST, timeout=60, message="all workers are ready")

        def shared():  # the host that came first may have begun with all of them
            living = system.store.processes.register().living(Role.WORKER)
            of = {worker.id: worker.host for worker in living if worker.state == WorkerState.READY}
            return of if Counter(of.values()) == dict.fromkeys(NAMES, MOST // 3) else None

        hosts = wait_until(shared, timeout=60, message="each host has its share")
        events, under_way = system.push_evenly(1500), Counter()
        run_id = system.ask_for_run()

        def closed():
            for worker, lanes in zip(hosts, system.store.processes.lanes(list(hosts)), strict=True):
                under_way[hosts[worker]] += len(lanes)
            return as_json(system.store.runs.record(run_id))

        system.assert_promises(events, [wait_until(closed, timeout=40, message="the run is closed")])
        assert max(under_way.values()) < 1.5 * sum(under_way.values()) / len(NAMES), under_way


@pytest.mark.long
def test_the_share_of_a_host_that_vanished_is_taken_over(hosts):
    """Frozen with its workers, as where a host is gone; when it is back, nobody has more than there may be for long."""
    frozen = hosts.processes["c"]
    workers = [pid for template in hosts.samples.children(frozen.pid) for pid in hosts.samples.children(template)]
    for pid in (frozen.pid, *workers):
        os.kill(pid, signal.SIGSTOP)
    took = seconds_until(hosts.samples, {"a": MOST // 2, "b": MOST // 2, "c": MOST // 3})
    for pid in (frozen.pid, *workers):
        os.kill(pid, signal.SIGCONT)
    back = seconds_until(hosts.samples, dict.fromkeys(NAMES, MOST // 3))

    print(f"taken over after {took:.1f} s, given back after {back:.1f} s")
    assert HEARTBEAT_TTL_SECONDS - HEARTBEAT_SECONDS < took < HEARTBEAT_TTL_SECONDS + 4
    assert back < 10


@pytest.mark.long
def test_an_orderly_end_is_taken_over_at_once(hosts):
    """The others need not wait for a heartbeat's life, and at no moment there are more than there may be."""
    hosts.processes["c"].send_signal(signal.SIGTERM)
    took = seconds_until(hosts.samples, {"a": MOST // 2, "b": MOST // 2, "c": 0})

    assert took < 6
    assert hosts.samples.most <= MOST, hosts.samples.worst
