"""The supervisor's decisions: recorded histories with a fake process table, a fake store, a fake clock."""

from __future__ import annotations

import logging
import os
import signal
from collections import Counter
from contextlib import nullcontext, suppress
from types import SimpleNamespace

import pytest

from rlm.core.errors import StoreUnreachableError
from rlm.ledger.processes import (
    LEFT,
    Offer,
    Process,
    Role,
    WorkerState,
)
from rlm.processes import alive, child, sharing, supervisor
from rlm.processes.alive import pid_space
from rlm.processes.child import (
    BOOT_SECONDS,
    FIRST_WAIT_SECONDS,
    LONGEST_WAIT_SECONDS,
    LOOK_SECONDS,
    QUICK_DEATH_SECONDS,
    SILENT_SECONDS,
)
from rlm.processes.signals import Wakeup
from rlm.processes.supervisor import Supervisor
from rlm.settings import load_settings
from tests.clocks import SetClock
from tests.values import replace


class FakeProcess:
    """An entry of the fake process table."""

    def __init__(self, pid):
        self.pid = pid
        self.exitcode = None
        self.signals = []
        self.ends = os.pipe()

    def join(self):
        """Do nothing: it is dead or it is not."""

    def die(self, exitcode):
        self.exitcode = exitcode
        os.write(self.ends[1], b"x")

    def fileno(self):
        return self.ends[0]

    def close(self):
        """Stop watching; the table closes the pipe."""


class Table:
    """Launches fake processes, and ends killed ones."""

    def __init__(self):
        self.processes = {}
        self.by_pid = {}
        self.broken = None
        self.stillborn = False
        self.unkillable = False

    def spawn(self, worker_id, _supervisor_id):
        if self.broken:
            raise self.broken
        process = FakeProcess(len(self.by_pid) + 1)
        self.processes[worker_id] = self.by_pid[process.pid] = process
        return process

    def watch_death(self, pid):
        return None if self.stillborn else self.by_pid[pid]

    def kill(self, pid, signum):
        process = self.by_pid[pid]
        process.signals.append(signum)
        if signum == signal.SIGKILL and not self.unkillable:
            process.die(-signal.SIGKILL)

    def close(self):
        for process in self.by_pid.values():
            for end in process.ends:
                os.close(end)


class FakeStore:
    """The part of the store that a supervisor uses; `away` makes every command fail."""

    url = "unix:///nowhere"
    keys = SimpleNamespace(wake=lambda whom: f"wake:{whom}")
    guarded = staticmethod(nullcontext)

    def __init__(self):
        self.processes = self.ledger = self.recovery = self
        self.said = 0
        self.signed_off = {}
        self.away = False
        self.number = 0
        self.entries = {role: {} for role in Role}
        self.load = Counter()
        self.silence = Counter()
        self.asked_for_silence = 0
        self.restarts = 0
        self.orphaned = []
        self.blamed = []
        self.woken = []

    def _reach(self):
        if self.away:
            raise StoreUnreachableError("Redis cannot be reached: start it")

    def wanted(self):
        self._reach()
        return self.number

    def announce(self, role, process, *, entered=False):  # the register's signature
        self._reach()
        self.said += 1
        self.entries[role][process.id] = replace(process, said_at=float(self.said))

    def sign_off(self, role, process):
        self._reach()
        self.entries[role].pop(process.id, None)
        self.signed_off[process.id] = replace(process, state=LEFT)

    def heard(self, role, known=(), *, gone=False):  # the register's signature
        self._reach()
        return self.entries[role] | {one: self.signed_off[one] for one in known if one in self.signed_off}

    def enter(self, _role, process_ids):
        self._reach()
        self.entered = process_ids

    def forget(self, role, process_id):
        self._reach()
        self.entries[role].pop(process_id, None)

    def alive(self, role):
        self._reach()
        return list(self.entries[role].values())

    def busy(self, worker_ids):
        self._reach()
        return [self.load[worker_id] for worker_id in worker_ids]

    def silences_here(self, _role, process_ids):
        self._reach()
        self.asked_for_silence += 1
        return [self.silence[process_id] for process_id in process_ids]

    def count_restarts(self, worker_ids):
        self._reach()
        self.restarts += len(worker_ids)

    def reap(self, worker_id, *, died):
        self._reach()
        self.orphaned.append(worker_id)
        self.blamed += [worker_id] if died else []
        return 1

    def wake(self, whom):
        self._reach()
        self.woken.append(whom)


class Stop:
    """The signals, sent by the test; each read of `immediate` first plays the next of `steps`."""

    def __init__(self):
        self.wakeup = Wakeup()
        self.graceful = False
        self.at_once = False
        self.steps = iter(())

    @property
    def immediate(self):
        next(self.steps, lambda: None)()
        return self.at_once


class FakeWaker:
    """Wakes nobody."""

    def __init__(self, *_args):
        pass

    def start(self):
        pass

    def stop(self):
        pass


class Host:
    """A supervisor on a host of fakes, driven turn by turn."""

    def __init__(self, monkeypatch, **workers):
        self.clock, self.table, self.store, self.stop = SetClock(), Table(), FakeStore(), Stop()
        self.wakeup = self.stop.wakeup
        for module in (supervisor, child, sharing, alive):
            monkeypatch.setattr(module, "system_clock", self.clock)
        monkeypatch.setattr(child, "system_clock", self.clock)
        monkeypatch.setattr(supervisor, "watch_death", self.table.watch_death)
        monkeypatch.setattr(supervisor, "Waker", FakeWaker)
        monkeypatch.setattr(child, "os", SimpleNamespace(kill=self.table.kill))
        environ = {f"RLM_WORKERS__{name.upper()}": str(value) for name, value in workers.items()}
        self.settings = load_settings(None, environ)
        self.longest = self.settings.retry.timeout_seconds
        self._born = {}
        self.supervisor = Supervisor(self.store, self.settings, self.table, self.stop)

    def turn(self, number=1):
        """Turn the loop, without its wait."""
        for _ in range(number):
            self.wakeup.wake()
            self.supervisor._turn()
            for one in self.supervisor._children.values():
                one.spawned_at = self._born.setdefault(one.worker_id, self.clock.time)  # the fake clock's

    def want(self, number):
        self.store.number = number
        self.turn(2)

    def come_up(self):
        """Let all workers announce that they are ready."""
        workers = self.store.entries[Role.WORKER]
        for worker_id, entry in workers.items():
            workers[worker_id] = replace(entry, state=WorkerState.READY)

    @property
    def running(self):
        return [one for one in self.supervisor._children.values() if not one.stopping]

    def process(self, worker):
        return self.table.processes[worker.worker_id]

    def signals(self):
        return [process.signals for process in self.table.processes.values()]


@pytest.fixture
def make_host(monkeypatch, tmp_path):
    """Make hosts; afterwards their pipes are closed."""
    monkeypatch.chdir(tmp_path)
    hosts = []

    def make(**workers):
        host = Host(monkeypatch, **workers)
        hosts.append(host)
        return host

    yield make
    for host in hosts:
        host.table.close()
        host.wakeup.close()
        with suppress(RuntimeError):
            host.supervisor._selector.close()


@pytest.fixture
def host(make_host):
    return make_host(max=20)


def errors(caplog):
    """Return the log records of level warning or higher."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_wanted_number_is_spawned_and_announced(host):
    """Each worker has an id of its own, in the register from the moment it is spawned."""
    host.want(3)

    assert len(host.running) == 3
    entries = host.store.entries[Role.WORKER]
    assert [entry.state for entry in entries.values()] == [WorkerState.STARTING] * 3
    assert {entry.pid for entry in entries.values()} == {1, 2, 3}
    assert {entry.supervisor for entry in entries.values()} == {host.supervisor.id}
    assert {entry.revision for entry in entries.values()} == {host.settings.revision}
    assert list(host.store.entries[Role.SUPERVISOR]) == [host.supervisor.id]


def test_scaling_down_asks_the_quietest(host):
    """The workers with the least in hand are asked to leave, once, and the others go on."""
    host.want(4)
    for worker, load in zip(host.running, (3, 0, 5, 1), strict=True):
        host.store.load[worker.worker_id] = load
    host.want(2)
    host.turn(5)

    assert host.signals() == [[], [signal.SIGTERM], [], [signal.SIGTERM]]


def test_a_worker_that_was_asked_to_leave_is_no_loss(host, caplog):
    """Its end is expected: not counted, not replaced, no error; what it held is freed nevertheless."""
    host.want(2)
    first = host.running[0]
    host.store.load[host.running[1].worker_id] = 1
    host.want(1)
    host.process(first).die(0)
    host.turn(3)

    assert len(host.table.processes) == 2
    assert (host.store.restarts, errors(caplog)) == (0, [])
    assert host.store.orphaned == [first.worker_id]
    assert first.worker_id not in host.store.entries[Role.WORKER]


def test_a_worker_that_dies_is_freed_counted_and_replaced(host, caplog):
    """An unexpected end is an error that names its signal; what it held is free before its successor is born."""
    host.want(2)
    dead = host.running[0]
    host.clock.sleep(QUICK_DEATH_SECONDS + 1)
    host.process(dead).die(-signal.SIGSEGV)
    host.turn(2)

    assert host.store.orphaned == [dead.worker_id]
    assert dead.worker_id not in host.store.entries[Role.WORKER]
    assert host.store.restarts == 1
    assert len(host.running) == 2
    assert len(host.table.processes) == 3
    (message,) = errors(caplog)
    assert dead.worker_id in message
    assert "by SIGSEGV" in message


def test_failed_starts_back_off_and_a_long_life_forgets_them(host):
    """Each quick death doubles the wait up to the longest; a worker that lived long is replaced at once."""
    host.want(1)
    waits = []
    for _ in range(8):
        host.process(host.running[0]).die(1)
        host.turn()
        died_at = host.clock.time
        while not host.running:
            host.clock.sleep(FIRST_WAIT_SECONDS / 4)
            host.turn()
        waits.append(host.clock.time - died_at)

    assert waits == [min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**n) for n in range(8)]

    host.clock.sleep(QUICK_DEATH_SECONDS + 1)
    host.process(host.running[0]).die(1)
    host.turn()
    assert len(host.running) == 1

    host.process(host.running[0]).die(1)
    host.turn()
    assert not host.running
    host.clock.sleep(FIRST_WAIT_SECONDS)
    host.turn()
    assert len(host.running) == 1


@pytest.mark.parametrize("error", [OSError(11, "no more processes"), ConnectionError("the template does not answer")])
def test_a_host_that_can_start_no_more_goes_on_with_those_it_has(host, caplog, error):
    """A spawn that fails costs that worker, with a wait and an error, not the supervisor and all the others."""
    host.want(2)
    host.table.broken = error
    host.want(5)
    host.turn(5)

    assert len(host.running) == 2
    assert host.signals() == [[], []]
    assert len(errors(caplog)) == 1
    assert str(error) in errors(caplog)[0]

    host.table.broken = None
    host.clock.sleep(FIRST_WAIT_SECONDS)
    host.turn()
    assert len(host.running) == 5


def other(name, **facts):
    return Process(id=name, pid=1, host=name, started_at=0.0, offer=Offer(20, 0, 20), **facts)


def worker_of(name, number):
    return Process(id=f"{name}:{number}", pid=1, host=name, started_at=0.0, supervisor=name)


@pytest.mark.parametrize(
    ("pids", "succeeded"),
    [(pid_space(), True), ("another boot:1", False), ("", False)],
    ids=["here", "elsewhere", "old"],
)
def test_what_was_killed_with_its_supervisor_is_freed_by_the_next(make_host, dead_pid, caplog, pids, succeeded):
    """Numbers of processes count only where they were given: another container's may well be nobody's here."""
    host = make_host(max=2)
    here = host.supervisor._settings.host_name
    facts = {"pid": dead_pid, "host": here, "started_at": 0.0, "pids": pids}
    host.store.announce(Role.SUPERVISOR, Process(id="killed", offer=Offer(2, 0, 2), **facts))
    for number in range(2):
        host.store.announce(Role.WORKER, Process(id=f"killed:{number}", supervisor="killed", **facts))

    host.want(2)

    assert host.store.orphaned == (["killed:0", "killed:1"] if succeeded else [])
    assert len(host.running) == (2 if succeeded else 0)
    assert ("killed" in host.store.signed_off) is succeeded
    assert len(errors(caplog)) == succeeded


def test_a_living_supervisor_of_the_host_is_left_alone(make_host):
    """Two may share a host: the workers of one that lives are its own, even the dead, which it frees itself."""
    host = make_host(max=2)
    facts = {"host": host.supervisor._settings.host_name, "started_at": 0.0, "pids": pid_space()}
    host.store.announce(Role.SUPERVISOR, Process(id="other", pid=os.getpid(), offer=Offer(2, 0, 2), **facts))
    host.store.announce(Role.WORKER, Process(id="other:1", pid=2**22 + 1, supervisor="other", **facts))

    host.want(2)

    assert host.store.orphaned == []
    assert "other" not in host.store.signed_off


def test_a_share_follows_the_supervisors_that_come_and_sign_off(host):
    """A second host takes half over, and its orderly end gives it back at once."""
    host.want(4)
    host.store.announce(Role.SUPERVISOR, other("~last"))
    host.turn()
    assert len(host.running) == 2

    host.store.sign_off(Role.SUPERVISOR, other("~last"))
    host.turn()
    assert len(host.running) == 4


def test_silence_does_not_count_while_nothing_could_be_heard(host):
    """Redis was away for long, or this host was suspended: nobody is gone for that."""
    host.store.announce(Role.SUPERVISOR, other("~last"))
    host.want(4)
    host.store.away = True
    for _ in range(60):
        host.clock.sleep(1.0)
        host.turn()
    host.store.away = False
    host.store.entries[Role.SUPERVISOR].clear()
    host.turn()

    assert len(host.running) == 2
    host.clock.sleep(3600.0)
    host.turn()
    assert len(host.running) == 2


def test_no_worker_is_started_for_which_there_is_no_place(host):
    """The workers of another host are still about to leave: each that has gone makes room for one here."""
    leaving = {f"~last:{number}": worker_of("~last", number) for number in range(15)}
    host.store.entries[Role.WORKER] |= leaving
    host.want(20)
    assert len(host.running) == 5

    for name in list(leaving)[:4]:
        host.store.entries[Role.WORKER].pop(name)
    host.turn()
    assert len(host.running) == 9


def test_while_redis_is_away_the_workers_stay_and_a_death_is_not_forgotten(host, caplog):
    """Nothing is spawned or stopped blindly; what a dead worker held is freed once Redis is back."""
    host.want(2)
    host.store.away = True
    dead = host.running[0]
    host.clock.sleep(QUICK_DEATH_SECONDS + 1)
    host.process(dead).die(-signal.SIGKILL)
    host.turn(3)

    assert len(host.running) == 1
    assert (host.store.orphaned, host.store.restarts) == ([], 0)

    host.store.away = False
    host.turn()

    assert host.store.orphaned == [dead.worker_id]
    assert host.store.restarts == 1
    assert len(host.running) == 2


def test_a_stop_asks_every_worker_once_and_waits(host):
    """TERM for each, and the end when the last has left: freed, signed off, the others told."""
    host.want(3)
    workers = list(host.running)
    host.stop.steps = iter([lambda one=one: host.process(one).die(0) for one in workers])
    host.stop.graceful = True
    host.supervisor.run()

    assert host.signals() == [[signal.SIGTERM]] * 3
    assert sorted(host.store.orphaned) == sorted(one.worker_id for one in workers)
    assert host.store.entries[Role.WORKER] == {}
    assert host.store.entries[Role.SUPERVISOR] == {}
    assert host.store.woken == ["supervisors"] * 3, "as it came, as it gave its share away, and as it went"
    assert host.store.restarts == 0


def test_a_second_signal_ends_every_worker_at_once(host, caplog):
    """KILL for each that is left, once, and what they held is freed: that they died is no fault of it."""
    host.want(3)
    first, *rest = host.running

    def second_signal():
        host.stop.at_once = True

    host.stop.steps = iter([lambda: host.process(first).die(0), lambda: None, second_signal])
    host.stop.graceful = True
    host.supervisor.run()

    assert host.process(first).signals == [signal.SIGTERM]
    assert [host.process(one).signals for one in rest] == [[signal.SIGTERM, signal.SIGKILL]] * 2
    assert len(host.store.orphaned) == 3
    assert not {one.worker_id for one in rest} & set(host.store.blamed)
    assert caplog.text.count("is ended at once") == 2


def look(host, number):
    """Let the supervisor look for silent workers `number` times, an interval apart."""
    for _ in range(number):
        host.clock.sleep(LOOK_SECONDS)
        host.turn()


def fall_silent(host, *workers):
    """Let enough time pass that a look finds them silent."""
    host.clock.sleep(SILENT_SECONDS)
    host.store.silence.update(dict.fromkeys((one.worker_id for one in workers), SILENT_SECONDS + 0.1))


def test_workers_that_are_heard_again_were_not_frozen(host):
    """The register is lost, or Redis is away: nobody is heard for a while, and nobody is killed for it."""
    host.want(2)
    host.come_up()
    look(host, 1)
    fall_silent(host, *host.running)
    look(host, 1)
    host.store.silence.clear()
    look(host, 1)
    fall_silent(host, *host.running)
    look(host, 1)
    host.store.away = True
    look(host, 1)
    host.store.away = False
    look(host, 1)

    assert host.signals() == [[], []]


def test_a_worker_that_never_comes_up_is_killed_and_its_successor_waits(host):
    """It hangs while it starts: that is a start that failed, and such ones are not repeated at once for ever."""
    host.want(1)
    host.store.silence[host.running[0].worker_id] = SILENT_SECONDS + 0.1
    host.clock.sleep(BOOT_SECONDS)
    look(host, 2)
    host.turn()
    after_its_death = len(host.running)
    host.clock.sleep(FIRST_WAIT_SECONDS)
    host.turn()

    assert host.signals() == [[signal.SIGKILL], []]
    assert (after_its_death, len(host.running)) == (0, 1)


#: What a night may bring: (step, its argument), and how many workers run after each.
HISTORIES = {
    "a run comes and goes": [("want", 3, 3), ("want", 0, 0), ("leave", 3, 0)],
    "wanted again while leaving": [("want", 2, 2), ("want", 0, 0), ("want", 2, 2), ("leave", 2, 2)],
    "one dies young": [("want", 2, 2), ("die", 1, 1), ("wait", 0.1, 1), ("wait", 0.2, 2)],
    "one dies old": [("want", 2, 2), ("wait", 60, 2), ("die", 1, 2)],
    "all die old": [("want", 3, 3), ("wait", 60, 3), ("die", 3, 3)],
    "all die young, and again": [
        ("want", 3, 3),
        ("die", 3, 0),
        ("wait", 0.2, 0),
        ("wait", 0.1, 3),
        ("die", 3, 0),
        ("wait", 0.4, 0),
    ],
    "dies while redis is away": [("want", 2, 2), ("wait", 60, 2), ("away", 1, 2), ("die", 1, 1), ("away", 0, 2)],
    "not wanted any more while waiting": [("want", 1, 1), ("die", 1, 0), ("want", 0, 0), ("wait", 60, 0)],
}


@pytest.mark.parametrize("name", HISTORIES)
def test_a_recorded_history_leaves_as_many_workers_as_it_should(host, name):
    """After each step as many run as the history says, and every dead one was freed once Redis could be reached."""
    for step, argument, expected in HISTORIES[name]:
        if step == "want":
            host.want(argument)
        elif step == "wait":
            host.clock.sleep(argument)
        elif step == "away":
            host.store.away = bool(argument)
        elif step == "die":
            for one in host.running[:argument]:
                host.process(one).die(-signal.SIGKILL)
        elif step == "leave":
            for one in [one for one in host.supervisor._children.values() if one.stopping][:argument]:
                host.process(one).die(0)
        host.turn(2)

        assert len(host.running) == expected, f"after {step} {argument}"

    dead = {worker_id for worker_id, process in host.table.processes.items() if process.exitcode is not None}
    assert set(host.store.orphaned) == dead
    assert len(host.store.orphaned) == len(dead)
