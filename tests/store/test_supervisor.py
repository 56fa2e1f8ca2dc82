"""The supervisor's decisions, on a real server, with processes that do nothing."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time

import pytest

from rlm.ledger.processes import Offer, Process, Role, WorkerState
from rlm.processes import supervisor
from rlm.processes.signals import StopSignals
from rlm.processes.supervisor import Supervisor
from tests.store import steps
from tests.wait import wait_until

IDLE = "exec sleep 60"
#: Seconds from one heartbeat to the next, where a test waits for them.
HEARTBEAT = 1.0
BUSY = "trap '' TERM; sleep 60"


class Worker:
    """A process that a supervisor started, with what the supervisor uses of one of `multiprocessing`."""

    def __init__(self, worker_id, command):
        self.id = worker_id
        self.process = subprocess.Popen(["sh", "-c", command])
        self.pid = self.process.pid

    @property
    def exitcode(self):
        return self.process.poll()

    def join(self, timeout):
        self.process.wait(timeout)


class Host:
    """A supervisor in a thread, and the workers that it has started."""

    def __init__(self, store, stop):
        self.store, self.stop = store, stop
        self.workers = []
        self.command = IDLE
        self.broken = None
        self.supervisor = Supervisor(store, self.spawn, self.stop)
        self.thread = threading.Thread(target=self.supervisor.run)

    def spawn(self, worker_id, _supervisor_id):
        if self.broken:
            raise self.broken
        self.workers.append(Worker(worker_id, self.command))
        return self.workers[-1]

    @property
    def running(self):
        return [one for one in self.workers if one.exitcode is None]

    def want(self, number):
        self.store.client.hset(self.store.keys.processes, "wanted", number)
        self.store.processes.wake("supervisors")

    def wait_for(self, number, timeout=8.0):
        wait_until(lambda: len(self.running) == number, timeout=timeout, message=f"{number} workers run")

    def start(self):
        self.thread.start()
        wait_until(lambda: self.store.processes.register().living(Role.SUPERVISOR), message="it has announced itself")

    def ask(self, *, at_once=False):
        """Send it a signal, or two."""
        self.stop.graceful, self.stop.immediate = True, at_once
        self.stop.wake()

    def end(self):
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def host(make_store, monkeypatch):
    """A host with room for 20 workers, which often looks around; afterwards its supervisor has ended."""
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.2)
    with StopSignals() as stop:
        host = Host(make_store(workers={"max": 20}), stop)
        yield host
        host.ask(at_once=True)
        host.end()


def entry(name, role=Role.SUPERVISOR, **facts):
    offer = Offer(20, 0, 20) if role is Role.SUPERVISOR else None
    return Process(**{"id": name, "pid": os.getpid(), "host": name, "started_at": 0.0, "offer": offer, **facts})


@pytest.mark.parametrize(("signum", "words"), [(signal.SIGSEGV, "by SIGSEGV"), (signal.SIGRTMIN + 1, "by signal 35")])
def test_a_worker_that_dies_is_freed_counted_and_replaced(host, running, caplog, signum, words):
    """The log names its signal; the events that it had can be claimed again."""
    running(1)
    host.start()
    host.want(1)
    host.wait_for(1)
    dead = host.workers[0]
    call = steps.claim(host.store, dead.id)

    os.kill(dead.pid, signum)
    wait_until(lambda: len(host.workers) == 2, timeout=8, message="it is replaced")

    assert host.store.processes.register().restarts == 1
    assert steps.claim(host.store, host.workers[1].id).event_id == call.event_id
    (record,) = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert words in record.getMessage()
    assert dead.id not in {one.id for one in host.store.processes.register().living(Role.WORKER)}


def test_failed_starts_wait_and_are_announced(host):
    """A second lies between two of them; what is announced is a condition."""
    host.command = "exit 1"
    host.start()
    host.want(1)

    wait_until(lambda: host.store.processes.register().living(Role.SUPERVISOR)[0].trouble, message="it is announced")

    time.sleep(1.2)
    assert len(host.workers) <= 3
    host.command = IDLE
    host.wait_for(1)


def test_a_share_follows_the_supervisors_that_come_and_go(host):
    """A second host takes half over, and its end gives it back."""
    host.start()
    host.want(4)
    host.wait_for(4)
    host.store.processes.announce(Role.SUPERVISOR, entry("~last"))
    host.wait_for(2)

    host.store.processes.announce(Role.SUPERVISOR, entry("~last", offer=None))
    host.wait_for(4)


def test_of_two_supervisors_on_a_host_the_newer_has_the_workers(host):
    """So what is started anew need not wait until what it replaces has left."""
    name, revision = host.store.settings.host_name, host.store.settings.revision
    host.start()
    host.want(3)
    host.wait_for(3)
    host.store.processes.announce(
        Role.SUPERVISOR, entry("newer", host=name, started_at=time.time() + 1, revision=revision)
    )
    host.wait_for(0)


def test_a_configuration_that_is_not_in_force_has_no_share_once_one_that_is_has_a_supervisor(host):
    """Its workers claim nothing: they finish, and those of the other supervisor take their places, on any host."""
    store = host.store
    store.client.hset(store.keys.lease, "revision", "in force")
    host.start()
    host.want(3)
    host.wait_for(3)
    store.processes.announce(Role.SUPERVISOR, entry("elsewhere", revision="in force"))
    host.wait_for(0)

    store.client.hset(store.keys.lease, "revision", store.settings.revision)
    host.wait_for(3)


def test_no_worker_is_started_for_which_there_is_no_place(host):
    """The workers of another host are still about to leave: each that has gone makes room for one here."""
    for number in range(15):
        host.store.processes.announce(Role.WORKER, entry(f"~last:{number}", Role.WORKER, supervisor="~last"))
    host.want(20)
    host.start()
    host.wait_for(5, timeout=5)
    time.sleep(0.7)
    assert len(host.running) == 5

    for number in range(4):
        host.store.processes.forget(Role.WORKER, f"~last:{number}")
    host.wait_for(9, timeout=3)


def test_a_register_lost_in_an_outage_gives_nobody_the_share_of_all(host, monkeypatch):
    """The others enter themselves again within a heartbeat; until then nobody takes their place."""
    monkeypatch.setattr(supervisor, "HEARTBEAT_SECONDS", HEARTBEAT)
    host.store.processes.announce(Role.SUPERVISOR, entry("~last"))
    host.start()
    host.want(4)
    host.wait_for(2)
    own = next(each.id for each in host.store.processes.register().living(Role.SUPERVISOR) if each.id != "~last")
    with host.store.client.pipeline() as together:
        together.hdel(host.store.keys.processes, f"supervisor {own}", "supervisor ~last")
        together.client_pause(round(1000 * HEARTBEAT) + 500)
        together.execute()
    time.sleep(HEARTBEAT + 0.5)
    wait_until(lambda: host.store.processes.register().living(Role.SUPERVISOR), message="it is back")
    time.sleep(0.5)
    host.store.processes.announce(Role.SUPERVISOR, entry("~last"))
    time.sleep(HEARTBEAT)

    assert len(host.workers) == len(host.running) == 2


def test_a_second_signal_ends_every_worker_at_once(host, running):
    """KILL for each that is left; that they died is no fault of their events."""
    running(1)
    host.command = BUSY
    host.start()
    host.want(2)
    host.wait_for(2)
    call = steps.claim(host.store, host.workers[0].id)
    time.sleep(0.3)  # the shell has its trap
    host.ask()
    time.sleep(0.5)
    assert len(host.running) == 2

    host.ask(at_once=True)
    host.end()

    assert [one.exitcode for one in host.workers] == [-signal.SIGKILL] * 2
    assert host.store.client.hget(host.store.keys.event(call.event_id), "deaths") in {None, b"0"}


def test_a_worker_that_does_not_leave_is_killed_after_the_grace_period(host, monkeypatch):
    """Its calls cannot take longer."""
    monkeypatch.setattr(supervisor, "grace_seconds", lambda *_: 0.5)
    host.command = BUSY
    host.start()
    host.want(1)
    host.wait_for(1)
    time.sleep(0.3)
    host.want(0)
    host.wait_for(0)

    assert host.workers[0].exitcode == -signal.SIGKILL


def say(host, worker, state=WorkerState.READY):
    host.store.processes.announce(Role.WORKER, entry(worker.id, Role.WORKER, state=state))


def test_the_longest_silent_leaves_first(host):
    """It may be frozen, and the oldest all the same."""
    host.start()
    host.want(3)
    host.wait_for(3)
    time.sleep(0.5)  # its last turn of them is over
    for worker in (host.workers[1], host.workers[0], host.workers[2]):
        say(host, worker)
    host.want(2)
    host.wait_for(2)

    assert host.workers[1] not in host.running


@pytest.mark.rest
def test_a_worker_that_falls_silent_or_never_comes_up_is_killed(host, monkeypatch):
    """Nothing else would ever end a frozen one."""
    monkeypatch.setattr(supervisor, "FROZEN_SECONDS", 2.0)
    monkeypatch.setattr(supervisor, "BOOT_SECONDS", 4.0)
    host.start()
    host.want(3)
    host.wait_for(3)
    talker, silent, stuck = host.workers
    say(host, silent)

    until = time.monotonic() + 7.0
    while time.monotonic() < until:
        say(host, talker)
        time.sleep(0.2)

    assert [one.exitcode for one in (talker, silent, stuck)] == [None, -signal.SIGKILL, -signal.SIGKILL]


def test_workers_that_are_heard_again_were_not_frozen(host, monkeypatch):
    """Redis is away for longer than a silence may last: nobody is heard, and nobody is killed for it."""
    monkeypatch.setattr(supervisor, "HEARTBEAT_SECONDS", HEARTBEAT)
    monkeypatch.setattr(supervisor, "FROZEN_SECONDS", 1.0)
    host.start()
    host.want(1)
    host.wait_for(1)
    say(host, host.workers[0])
    time.sleep(0.5)
    host.store.client.client_pause(1500)
    time.sleep(2.0)
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        say(host, host.workers[0])
        time.sleep(0.2)

    assert host.workers[0].exitcode is None
