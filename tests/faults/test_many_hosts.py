"""Several hosts: never more workers than `workers.max` over all of them, whatever happens to Redis or a host.

A host is a supervisor with its own name, on one Redis. Workers are counted in the process table, repeatedly, because
the register may have forgotten some.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from rlm.core.clock import system_clock
from rlm.ledger.embedded import EmbeddedServer
from rlm.ledger.processes import HEARTBEAT_SECONDS, HEARTBEAT_TTL_SECONDS, Role
from tests.acceptance.system import System
from tests.faults.proxy import RedisProxy
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
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exc):
        self._stopped.set()
        self._thread.join()

    def _sample(self):
        while not self._stopped.wait(SAMPLE_SECONDS):
            if (count := sum((now := self.now()).values())) > self.most:
                self.most, self.worst = count, now

    def now(self):
        """Return how many workers each host has: the living forks of its template."""
        return {name: sum(map(self._workers, self._children(pid))) for name, pid in self.supervisors.items()}

    def _workers(self, template):
        return sum(self._lives(pid) for pid in self._children(template))

    def _children(self, pid):
        try:
            return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            return []

    def _lives(self, pid):
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
        wait_until(lambda: len(hosts.store.processes.alive(Role.SUPERVISOR)) == 3, message="all say that they live")
    wait_until(lambda: len(hosts.store.processes.alive(Role.WORKER)) == MOST, message="all workers say so, too")

    assert hosts.samples.now() == dict.fromkeys(NAMES, MOST // 3)
    assert hosts.samples.most <= MOST, hosts.samples.worst


@pytest.mark.long
def test_the_share_of_a_host_that_vanished_is_taken_over(hosts):
    """Frozen with its workers, as where a host is gone; when it is back, nobody has more than there may be for long."""
    frozen = hosts.processes["c"]
    workers = [pid for template in hosts.samples._children(frozen.pid) for pid in hosts.samples._children(template)]
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


@pytest.mark.long
def test_a_host_that_is_cut_off_from_redis_keeps_its_workers_and_gives_up_what_is_too_much_when_it_is_back(tmp_path):
    """The workers that are heard from are never more than there may be for longer than it takes to see that.

    While it is cut off its workers live and can claim nothing; the others have its share.
    """
    (tmp_path / "redis").mkdir()
    (tmp_path / "rlm").mkdir()
    named = {name: {"RLM_HOST__NAME": name} for name in NAMES}
    with EmbeddedServer(tmp_path / "redis") as server, RedisProxy(server.url.removeprefix("unix://")) as proxy:
        options = {"env": ENV, "env_of": named, "redis_url": server.url, "redis_of": {"c": proxy.url}}
        with System(tmp_path / "rlm", **options) as system:
            for name in NAMES:
                system.start(name, "supervisor")
            with Samples({name: system.processes[name].pid for name in NAMES}) as samples:
                settle(samples, dict.fromkeys(NAMES, MOST // 3))
                proxy.refuse()
                took = seconds_until(samples, {"a": MOST // 2, "b": MOST // 2, "c": MOST // 3})
                proxy.accept()
                back = seconds_until(samples, dict.fromkeys(NAMES, MOST // 3))
                print(f"taken over after {took:.1f} s, given back after {back:.1f} s")
                assert took < 15
                assert back < 15


#: A program for which `localhost` has no address.
NO_ADDRESS = """
import socket
found = socket.getaddrinfo
def getaddrinfo(host, *args, **options):
    if host == "localhost":
        raise socket.gaierror(socket.EAI_AGAIN, "no resolver answers")
    return found(host, *args, **options)
socket.getaddrinfo = getaddrinfo
"""


@pytest.mark.long
def test_a_worker_that_can_connect_nowhere_sleeps_and_says_so_and_the_others_do_the_work(make_system, tmp_path):
    """Nothing is left over or fails for it, and its host is a condition."""
    (tmp_path / "sitecustomize.py").write_text(NO_ADDRESS)
    env = {"RLM_WORKERS__MIN": "2", "RLM_WORKERS__MAX": "2", "RLM_RUN__WINDOW_SECONDS": "30"}
    named = {name: {"RLM_HOST__NAME": name} for name in ("a", "b")}
    named["a"]["PYTHONPATH"] = str(tmp_path)
    with make_system(env=env, env_of=named) as system:
        system.config.write_text(system.config.read_text().replace("127.0.0.1", "localhost"))
        for name in ("scheduler", *named):
            system.start(*((name,) if name == "scheduler" else (name, "supervisor")))
        alive = system.store.processes.alive
        wait_until(lambda: {one.host for one in alive(Role.WORKER)} == {"a", "b"}, timeout=30, message="both work")
        events = system.push_evenly(300)
        run_id = system.ask_for_run()

        def asleep():
            return [one for one in json.loads(system.rlm("worker", "list", "--json").stdout) if one["sleeping"]]

        (sleeper,) = wait_until(asleep, timeout=20, message="a worker sleeps")
        conditions = json.loads(system.rlm("status", "--json").stdout)["conditions"]
        record = system.await_record(run_id)

        assert (sleeper["host"], "can connect to no endpoint" in sleeper["sleeping"]) == ("a", True)
        assert [one["subject"] for one in conditions if one["code"] == "worker_sleeps"] == ["a"]
        assert record["counts"] | {"completed": 300, "leftover": 0, "failed": 0} == record["counts"], record
        assert system.letters() == []
        system.assert_promises(events, [record])
