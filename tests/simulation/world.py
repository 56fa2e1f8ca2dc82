"""The simulated installation: the network to Redis, the processes, the operator, and the records of all of it."""

from __future__ import annotations

import logging
import random
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import dramatiq
import redis

from actors import messages
from actors.broker import IDLE_SECONDS, WakingBroker
from actors.messages import QUEUE
from rlm.core.errors import StoreError
from rlm.delivery.lane import Lanes
from rlm.delivery.run_end import PATIENCE_SECONDS, SPREAD_SECONDS, OverdueWatch, close_run
from rlm.ledger import Store
from rlm.ledger.processes import HEARTBEAT_SECONDS, Process, Role, WorkerState
from rlm.processes.supervisor import Supervisor
from scheduler.service import SchedulerService
from tests.simulation import names, seams
from tests.simulation.api import Arrival, SimulatedDispatcher
from tests.simulation.faults import Faults
from tests.simulation.loop import EPOCH, Event, Host, Loop
from tests.simulation.server import Client, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rlm.settings import Settings

#: One per installation; none of its parts knows it.
SCHEDULERS = 2
#: Seconds that a client waits for a missing answer; usually the connection breaks at once.
_SILENCE = (0.001, 0.001, 0.02, 0.3, 5.0)

_SERVER = Server()


class World:
    """Everything outside RLM's own code, by one seed."""

    def __init__(
        self,
        seed: int,
        settings: Settings,
        *,
        focus: Sequence[str] = (),
        way_seconds: float | None = None,
        keeps_log: bool = False,
    ) -> None:
        """Make the world of `seed`; calls take up to a share of `way_seconds` to be read, by default of the guard."""
        self.seed = seed
        self.settings = settings
        self.keeps_log = keeps_log
        self.rng = Random(seed)
        self.loop = Loop()
        self.faults = Faults(Random(seed + 1), focus=focus)
        self.guard_seconds = settings.run.guard_seconds if way_seconds is None else way_seconds
        self.arrivals: list[Arrival] = []
        self.complaints: list[str] = []
        self.trace: list[str] = []
        self.listeners: dict[str, dict[seams.Waker, None]] = {}
        self.patched: list[Any] = []
        self.hosts: list[Host] = []
        self.workers: dict[str, Worker] = {}
        self.redis_offset = self.hosts_offset = 0.0
        self.stops: dict[Host, seams.Stop] = {}
        self.stepped_at = float("-inf")
        self._away_until = 0.0
        self._pids: dict[Host | None, int] = {None: 1}
        self._latency = self.rng.choice((0.0001, 0.0003, 0.001))
        self._started: dict[str, int] = {}
        self._wrong: dict[str, float] = {}

    @contextmanager
    def in_place(self, mutations: Mapping[str, bytes] | None = None) -> Iterator[None]:
        """Put RLM into this world, with an empty Redis."""
        handler = _Tracing(self)
        if self.keeps_log:
            for name in ("rlm", "actors", "scheduler"):
                logging.getLogger(name).addHandler(handler)
                logging.getLogger(name).setLevel(logging.INFO)
        try:
            with seams.in_place(self, mutations or {}):
                self._empty_data_dir()
                _SERVER.reset(self._redis_clock, self._publish, self._new_run_id())
                #: The operator's and the checker's view: immediate, without faults.
                self.store = Store(self.settings, "redis://simulated")
                try:
                    yield
                finally:
                    self.loop.close()
        finally:
            for name in ("rlm", "actors", "scheduler"):
                logging.getLogger(name).removeHandler(handler)

    def _empty_data_dir(self) -> None:
        directory = self.settings.data_dir
        if directory.exists():
            for file in directory.rglob("*"):
                if file.is_file():
                    file.unlink()

    def _new_run_id(self) -> str:
        return f"{self.rng.getrandbits(160):040x}"

    # -- what is noted

    def note(self, text: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{self.loop.now:10.6f} {text}")

    def count(self, kind: str) -> None:
        """Count a fault and note it."""
        self.faults.count(kind)
        self.note(f"fault: {kind}")

    def complain(self, text: str) -> None:
        """Note that a promise is broken."""
        if any(one.endswith(f" s: {text}") for one in self.complaints):
            return
        self.note(f"BROKEN: {text}")
        self.complaints.append(f"at {self.loop.now:.3f} s: {text}")

    def judge_sending(self, event_id: str, endpoint: str, host: Host) -> None:
        """Complain about a call that is sent for a settled event."""
        state = _SERVER.socket.run([b"HGET", self.store.keys.event(event_id).encode(), b"state"])
        if state is not None and self.loop.now - self.stepped_at > 10:
            self.complain(f"{host.name} sends {event_id} to {endpoint}, which is {state.decode()} already")

    # -- redis

    def _redis_clock(self) -> float:
        return EPOCH + self.loop.now + self.redis_offset

    def make_client(self, _url: str, **_options: Any) -> Client:
        """Make a client whose commands go through the network of the process that sends them."""
        return Client(self.ask, lambda: _SERVER.socket.run_id)

    def ask(self, commands: Sequence[list[bytes]], whole: bool) -> list[Any]:
        """Carry commands to Redis and the replies back, with this moment's faults."""
        host, loop = self.loop.host, self.loop
        if host is None:
            return _SERVER.apply(commands)
        host.calls += 1
        if self.keeps_log:
            self.note(f"{host.name} asks {names.words(commands)}")
        doomed = host.doom is not None and host.calls >= host.doom.after
        doomed = doomed and host.doom.at in (None, names.name_of(commands))
        early = doomed and self.rng.random() < 0.6
        if early:
            self._meet_doom(host)
        fault = self.faults.command(commands[0][1] if commands[0][0] == b"EVALSHA" else commands[0][0])
        if fault:
            host.hit(loop.now)
            if self.keeps_log:
                self.note(f"{host.name}: {fault}")
        self._set_out(host, commands, fault, whole=whole)
        replies = _SERVER.apply(commands)
        if doomed and not early:
            self._meet_doom(host)
        if fault == "reply lost":
            self._fall_silent(host)
        if fault == "reply slow":
            loop.sleep(self.rng.uniform(0.01, 1.0))
        loop.sleep(self._latency * self.rng.uniform(0.3, 1.5))
        return replies

    def _set_out(self, host: Host, commands: Sequence[list[bytes]], fault: str, *, whole: bool) -> None:
        """Carry commands to Redis; returns if they arrive in time."""
        loop = self.loop
        loop.sleep(self._latency * self.rng.uniform(0.3, 1.5))
        if fault == "command slow":
            loop.sleep(self.rng.uniform(0.01, 1.0))
        if loop.now < self._away_until:
            host.hit(loop.now)
            raise redis.ConnectionError("away")
        if fault == "command lost":
            self._fall_silent(host)
        if fault == "command late":
            loop.call_at(loop.now + self.rng.uniform(0.001, 6.0), lambda: self._apply_late(commands))
            self._fall_silent(host)
        if fault == "batch cut" and not whole:
            _SERVER.apply(commands[: self.rng.randrange(len(commands) + 1)])
            self._fall_silent(host)

    def _apply_late(self, commands: Sequence[list[bytes]]) -> None:
        if self.loop.now >= self._away_until:
            if self.keeps_log:
                self.note(f"late: {names.words(commands)}")
            _SERVER.apply(commands)

    def _fall_silent(self, host: Host) -> None:
        self.loop.sleep(self.rng.choice(_SILENCE))
        host.hit(self.loop.now)
        raise redis.TimeoutError("no answer")

    def _meet_doom(self, host: Host) -> None:
        if host.doom is None:
            return  # another task of it has come first
        doom, host.doom = host.doom, None
        self.count(f"{host.kind} {doom.what}")
        self.note(f"{host.name} is {doom.what} for {doom.seconds:.3f} s, at {doom.at}")
        if doom.what == "killed":
            self.loop.kill(host)
        else:
            self.loop.freeze(host, doom.seconds)

    def wall_clock(self) -> float:
        """Return the time by the running process's host; each host is wrong in its own way."""
        host = self.loop.host
        return EPOCH + self.loop.now + self.hosts_offset + (self._wrong_by(host.name) if host else 0.0)

    def _wrong_by(self, name: str) -> float:
        """Return by how many seconds the clock of a host is wrong."""
        if name not in self._wrong:
            self._wrong[name] = Random(f"{self.seed} {name}").choice((0.0, 0.0, 0.2, 1.3, -1.3, 30.0, -30.0))
        return self._wrong[name]

    def _publish(self, channel: str) -> None:
        for waker in list(self.listeners.get(channel, ())):
            if not self.faults.loses_wake_up():
                self.loop.call_at(self.loop.now + self.rng.uniform(0.0001, 0.002), waker.hear)

    def go_away(self, seconds: float, *, restarts: bool) -> None:
        """Take Redis away for some time; if it `restarts` it comes back as another process, with all its data.

        For a Redis that forgets use `Server.restart(empty=True)`: see the package's docstring.
        """
        self._away_until = self.loop.now + seconds
        if restarts:
            _SERVER.restart(self._new_run_id(), empty=False)

    def step_clock(self, seconds: float) -> None:
        """Set the clock of Redis."""
        self.redis_offset += seconds
        self.stepped_at = self.loop.now
        for host in self.hosts:
            host.hit(self.loop.now)

    # -- processes

    def pid(self, host: Host | None) -> int:
        """Return the pid of a process."""
        return self._pids.setdefault(host, len(self._pids) + 1)

    def has_died(self, owner: str, _here: str) -> bool:
        """Return whether the process in a lease's owner is dead."""
        return any(host is not None and host.dead and f":{pid}:" in owner for host, pid in self._pids.items())

    def signal(self, pid: int, signum: int) -> None:
        """Signal a worker, like its supervisor."""
        for worker in self.workers.values():
            if worker.pid == pid and not worker.host.dead:
                if signum == 9:
                    self.loop.kill(worker.host)
                else:
                    worker.stop()

    def watch_death(self, pid: int) -> seams.Death:
        """Watch a worker for its death."""
        death = seams.Death(self.loop)
        (worker,) = [one for one in self.workers.values() if one.pid == pid]
        if worker.host.dead:
            death.event.set()
        worker.host.on_death.append(
            lambda: self.loop.call_at(self.loop.now + self.rng.uniform(0.001, 0.01), death.event.set)
        )
        return death

    def _host(self, kind: str) -> Host:
        number = self._started[kind] = self._started.get(kind, 0) + 1
        host = Host(f"{kind}{number}", kind)
        self.hosts.append(host)
        self.pid(host)
        return host

    def start(self) -> None:
        """Start the schedulers and a supervisor; dead processes are restarted like in production."""
        for _ in range(SCHEDULERS):
            self._start_again("scheduler", self._be_scheduler)
        self._start_again("supervisor", self._be_supervisor)

    def _start_again(self, kind: str, function: Callable[[Host], None]) -> None:
        host = self._host(kind)
        host.on_death.append(
            lambda: self.loop.call_at(
                self.loop.now + self.rng.uniform(0.2, 2.0), lambda: self._start_again(kind, function)
            )
        )
        self.note(f"{host.name} starts")
        self.loop.spawn(host, function, host, after=self.rng.uniform(0.0, 0.2))

    def _be_scheduler(self, host: Host) -> None:
        wakeup = seams.Wakeup(self.loop)
        store = Store(self.settings, "redis://simulated")
        self.stops[host] = stop = seams.Stop(wakeup)
        SchedulerService(store, stop).run()  # type: ignore[arg-type]
        self.note(f"{host.name} leaves")
        self.loop.kill(host)

    def _be_supervisor(self, host: Host) -> None:
        wakeup = seams.Wakeup(self.loop)
        store = Store(self.settings, "redis://simulated")
        launcher = _Launcher(self, store)
        host.on_death.append(launcher.abandon)
        Supervisor(store, self.settings, launcher, seams.Stop(wakeup)).run()  # type: ignore[arg-type]

    def living(self, kind: str) -> list[Host]:
        """Return the processes of a kind."""
        return [host for host in self.hosts if host.kind == kind and not host.dead]

    def conductor(self) -> Host | None:
        """Return the scheduler that holds the lease, if it lives."""
        holder = self.store.leases.holder()
        return next((host for host in self.living("scheduler") if holder and f":{self.pid(host)}:" in holder), None)

    def start_worker(self, worker_id: str, supervisor_id: str) -> Worker:
        """Start a worker."""
        worker = Worker(self, self._host("worker"), worker_id, supervisor_id)
        self.workers[worker_id] = worker
        self.note(f"{worker.host.name} starts")
        self.loop.spawn(worker.host, worker.run, after=self.rng.uniform(0.02, 0.3))
        return worker


@dataclass(slots=True)
class _SpawnedProcess:
    """A launcher's result for a worker."""

    pid: int
    worker: Worker

    @property
    def exitcode(self) -> int | None:
        return self.worker.exitcode if self.worker.host.dead else None

    def join(self) -> None:
        """Do nothing: it is dead when this is called."""


class _Launcher:
    """Replaces the template."""

    def __init__(self, world: World, store: Store) -> None:
        self._world = world
        self._store = store
        self._broker = WakingBroker(store)
        self._children: list[Worker] = []

    def spawn(self, worker_id: str, supervisor_id: str) -> Any:
        worker = self._world.start_worker(worker_id, supervisor_id)
        self._children.append(worker)
        return _SpawnedProcess(worker.pid, worker)

    def forget(self, worker_id: str) -> None:
        self._broker.forget(worker_id)

    def abandon(self) -> None:
        """Let the workers notice that their supervisor is gone."""
        for worker in self._children:
            self._world.loop.call_at(self._world.loop.now + 0.15, worker.stop)


class Worker:
    """A worker process: the real lanes and the real broker, with a consumer that fetches like the real one."""

    def __init__(self, world: World, host: Host, worker_id: str, supervisor_id: str) -> None:
        self.host = host
        self.pid = world.pid(host)
        self.exitcode = -9
        self._world = world
        self._id = worker_id
        self._supervisor_id = supervisor_id
        self._wake = Event(world.loop)
        self._main = Event(world.loop)
        self._stopping = False
        self._busy = 0

    def stop(self) -> None:
        """Ask it to exit (TERM)."""
        self._stopping = True
        self._main.set()
        self._wake.set()

    def run(self) -> None:
        world = self._world
        self._store = Store(world.settings, "redis://simulated")
        self._broker = WakingBroker(self._store)
        self._broker.broker_id, self._broker.maintenance_chance = self._id, 0
        dispatcher: Any = SimulatedDispatcher(world, self.host)
        self._lanes = Lanes(self._store, world.settings, dispatcher, self._id)
        patience = PATIENCE_SECONDS + random.uniform(0.0, SPREAD_SECONDS)
        self._lanes.overdue = OverdueWatch(self._store, patience, wake=self._main.set)
        self._started_at = EPOCH + world.loop.now
        waker = seams.Waker(world, self._store.keys.wake("workers"), self._wake.set)
        waker.start()
        world.loop.spawn(self.host, self._consume)
        while not self._stopping:
            self._announce(WorkerState.READY)
            self._lanes.overdue.look()
            self._main.wait(min(HEARTBEAT_SECONDS, self._lanes.overdue.pause_seconds))
            self._main.clear()
        self._wind_down(waker)

    def _wind_down(self, waker: seams.Waker) -> None:
        self._lanes.leaving = True
        world = self._world
        self._announce(WorkerState.STOPPING)
        deadline = world.loop.now + 0.8 + 2.0
        while self._busy and world.loop.now < deadline:
            world.loop.sleep(0.02)
        try:
            self._broker.forget(self._id)
            self._store.processes.forget(Role.WORKER, self._id)
            self.exitcode = 0
        except StoreError:
            self.exitcode = 70
        waker.stop()
        world.note(f"{self.host.name} leaves")
        world.loop.kill(self.host)

    def _announce(self, state: WorkerState) -> None:
        process = Process(
            id=self._id,
            pid=self.pid,
            host="simulated",
            started_at=self._started_at,
            state=state,
            threads=self._world.settings.workers.threads,
            revision=self._world.settings.revision,
            supervisor=self._supervisor_id,
        )
        try:
            self._store.processes.announce(Role.WORKER, process)
        except StoreError:
            return

    def _consume(self) -> None:
        loop, threads = self._world.loop, self._world.settings.workers.threads
        while not self._stopping:
            self._wake.clear()
            free = threads - self._busy
            if free > 0:
                try:
                    found = self._broker.do_fetch(QUEUE, free)
                except redis.RedisError:
                    loop.sleep(0.5)
                    continue
                for raw in found:
                    self._hand_over(dramatiq.Message.decode(raw))
                if found:
                    continue
            self._wake.wait(IDLE_SECONDS)

    def _hand_over(self, message: dramatiq.Message[Any]) -> None:
        loop, fault = self._world.loop, self._world.faults.message()
        if fault == "message lost":
            self.host.hit(loop.now)
            return
        after = self._world.rng.uniform(0.05, 2.0) if fault == "message late" else 0.0
        for _ in range(2 if fault == "message doubled" else 1):
            self._busy += 1
            loop.spawn(self.host, self._work, message, after=after)

    def _work(self, message: dramatiq.Message[Any]) -> None:
        if message.actor_name == messages.LEFTOVERS:
            try:
                close_run(self._store, *message.args)
            except StoreError:
                self._world.note("the end-of-run actor fails")
        else:
            self._lanes.carry(*message.args)
        try:
            self._broker.do_ack(QUEUE, message.options["redis_message_id"])
        except redis.RedisError:
            self._world.note("an acknowledgement is lost")
        self._busy -= 1
        self._wake.set()


class _Tracing(logging.Handler):
    """Puts RLM's log into the trace."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        host = self._world.loop.host
        error = f" ({record.exc_info[1]!r})" if record.exc_info else ""
        self._world.note(f"{host.name if host else 'operator'}: {record.levelname} {record.getMessage()}{error}")
