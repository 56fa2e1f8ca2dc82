"""Puts the simulated world under RLM's own code while a simulation runs, and removes it again."""

from __future__ import annotations

import functools
import itertools
import logging
import random
import secrets
import signal
import sys
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import dramatiq.brokers.redis

import actors.broker
import rlm.core.clock
import rlm.delivery.lane
import rlm.ledger.drain
import rlm.ledger.front
import rlm.ledger.intake
import rlm.ledger.scripts
import rlm.processes.alive
import rlm.processes.child
import rlm.processes.supervisor
import scheduler.conductor
import scheduler.leader
import scheduler.redis_watch
import scheduler.release_loop
import scheduler.service
from tests.simulation import names
from tests.simulation.loop import EPOCH, Event, Host, Loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.simulation.world import World


class Clock:
    """Replaces the module `time` under `rlm.core.clock`."""

    CLOCK_MONOTONIC = CLOCK_BOOTTIME = 0

    def __init__(self, world: World) -> None:
        self._loop = world.loop
        self.time = world.wall_clock
        self.sleep = world.loop.sleep

    def monotonic(self) -> float:
        return self._loop.now

    def clock_gettime(self, _which: int) -> float:
        return self._loop.now


class Wakeup:
    """Replaces the pipe that a process's main loop selects on."""

    def __init__(self, loop: Loop) -> None:
        self.event = Event(loop)

    def wake(self) -> None:
        self.event.set()

    def drain(self) -> None:
        self.event.clear()

    def wait(self, seconds: float) -> bool:
        woken = self.event.wait(seconds)
        self.event.clear()
        return woken


class Stop:
    """Replaces the signals that ask a process to stop."""

    def __init__(self, wakeup: Wakeup) -> None:
        self.wakeup = wakeup
        self.graceful = self.immediate = False

    def ask(self) -> None:
        self.graceful = True
        self.wakeup.wake()


class Death:
    """Replaces a pidfd: set when the process is dead."""

    def __init__(self, loop: Loop) -> None:
        self.event = Event(loop)

    def close(self) -> None:
        """Do nothing."""


class Selector:
    """Replaces a selector over wake-ups and deaths."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._files: dict[Any, None] = {}

    def register(self, file: Any, _events: int) -> None:
        self._files[file] = None

    def unregister(self, file: Any) -> None:
        del self._files[file]

    def select(self, timeout: float | None = None) -> list[tuple[Any, int]]:
        ready = self._ready()
        if not ready and timeout:
            wait = self._loop.next_wait()
            for file in self._files:
                file.event._waiters.append(wait)
            self._loop.sleep(timeout, instant=False)
            ready = self._ready()
        return ready

    def _ready(self) -> list[tuple[Any, int]]:
        return [(SimpleNamespace(fileobj=file), 1) for file in self._files if file.event.is_set()]

    def close(self) -> None:
        """Do nothing."""


class Thread:
    """Replaces `threading.Thread`: a task of the process that starts it."""

    def __init__(self, loop: Loop, target: Callable[..., object], args: Sequence[Any] = ()) -> None:
        self._loop, self._target, self._args = loop, target, args
        self._ended = Event(loop)

    def start(self) -> None:
        self._loop.spawn(self._loop.host, self._run)

    def _run(self) -> None:
        self._target(*self._args)
        self._ended.set()

    def join(self, timeout: float | None = None) -> None:
        self._ended.wait(timeout)


class Waker:
    """Replaces the thread that listens to a channel."""

    def __init__(self, world: World, channel: str, callback: Callable[[], None]) -> None:
        self._world, self._channel, self._callback = world, channel, callback
        self._host: Host | None = None

    def start(self) -> None:
        self._host = self._world.loop.host
        self._world.listeners.setdefault(self._channel, {})[self] = None
        self._callback()

    def stop(self) -> None:
        self._world.listeners.get(self._channel, {}).pop(self, None)

    def hear(self) -> None:
        if self._host is not None and not self._host.dead:
            self._callback()


class Ticking:
    """Replaces APScheduler: a tick on each multiple of the period, by the last known clock of Redis."""

    def __init__(self, world: World, redis_now: Callable[[], float], on_tick: Callable[[], None]) -> None:
        self._world, self._redis_now, self._on_tick = world, redis_now, on_tick
        self._stopped = False
        world.loop.spawn(world.loop.host, self._run)

    def _run(self) -> None:
        every, loop = self._world.settings.run.every_seconds, self._world.loop
        while not self._stopped:
            loop.sleep(every - self._redis_now() % every + 0.001)
            self._on_tick()

    def shutdown(self, *, wait: bool) -> None:  # APScheduler's signature
        self._stopped = True


def _read_script(script: Any, name: str, mutations: Mapping[str, bytes]) -> None:
    _AS_IT_IS(script, name, mutations.get(name))
    names.known_as(name, script.source)


_AS_IT_IS = rlm.ledger.scripts.Script.__init__


def _complaining(world: World, log: Callable[..., None]) -> Callable[..., None]:
    """Return a lane's `log` that also complains about unexpected errors, after which events are given back."""

    def tell(lane: Any, level: int, action: str, claim: Any, message: str, *args: object) -> None:
        if level >= logging.ERROR:
            world.complain(f"a lane failed: {message} ({sys.exc_info()[1]!r})")
        log(lane, level, action, claim, message, *args)

    return tell


_DEEP: list[tuple[Any, str, Any]] = [
    (scheduler.conductor, "FIRST_SECONDS", 0.0),
    (rlm.ledger.drain, "PIECE_SECONDS", 0.0),
    (rlm.ledger.intake, "CHUNK_ITEMS", 3),
]


@contextmanager
def in_place(world: World, mutations: Mapping[str, bytes]) -> Iterator[None]:
    """Put the world under RLM. `mutations` are sources that replace scripts, by name."""
    loop, rng = world.loop, world.rng
    numbers = itertools.count(1)
    no_kill = SimpleNamespace(kill=world.signal, getpid=lambda: world.pid(loop.host))
    threads = SimpleNamespace(Event=lambda: Event(loop), Thread=lambda target, args=(), **_: Thread(loop, target, args))
    state = random.getstate()
    disabled = logging.root.manager.disable
    patches: list[tuple[Any, str, Any]] = [
        (rlm.core.clock, "time", Clock(world)),
        (rlm.ledger.front, "make_client", world.make_client),
        (actors.broker, "uuid4", lambda: f"m{next(numbers):06d}"),
        (actors.broker.WakingBroker, "_max_unpack_size_val", 4000),  # else the first one of a process asks Redis
        (dramatiq.brokers.redis, "current_millis", lambda: int(1000 * (EPOCH + loop.now))),
        (rlm.ledger.scripts.Script, "__init__", lambda script, name: _read_script(script, name, mutations)),
        (rlm.ledger.scripts.Part, "_script", staticmethod(functools.cache(rlm.ledger.scripts.Script))),  # a world's own
        (rlm.delivery.lane.LaneContext, "log", _complaining(world, rlm.delivery.lane.LaneContext.log)),
        (secrets, "token_hex", lambda size=8: f"{rng.getrandbits(8 * size):0{2 * size}x}"),
        # Nobody waits here, and each turn costs: half as many.
        (scheduler.release_loop, "BUSY_SECONDS", 0.02),
        (scheduler.release_loop, "QUIET_SECONDS", 0.1),
        (scheduler.release_loop, "LOOK_SECONDS", 0.2),
        (scheduler.conductor, "BUSY_SECONDS", 0.02),
        # In every other case audit lists count as deep: most items are taken while calls are made.
        *(_DEEP if world.seed % 2 else ()),
        (scheduler.redis_watch, "require_fit", lambda *_, **__: None),  # there is no more to INFO than a run id
        (scheduler.leader, "os", no_kill),
        (scheduler.leader, "has_died", world.has_died),
        (scheduler.service, "os", no_kill),
        (scheduler.service, "threading", threads),
        (scheduler.service, "Waker", lambda _url, channel, callback: Waker(world, channel, callback)),
        (scheduler.service, "start_clock", lambda _every, redis_now, on_tick: Ticking(world, redis_now, on_tick)),
        (rlm.processes.alive, "threading", threads),
        (rlm.processes.supervisor, "Waker", lambda _url, channel, callback: Waker(world, channel, callback)),
        (
            rlm.processes.supervisor,
            "selectors",
            SimpleNamespace(DefaultSelector=lambda: Selector(loop), EVENT_READ=1),
        ),
        (rlm.processes.supervisor, "watch_death", world.watch_death),
        (rlm.processes.supervisor, "os", no_kill),
        (rlm.processes.child, "os", no_kill),
    ]
    try:
        random.seed(world.seed)
        if not world.keeps_log:
            logging.disable(logging.CRITICAL)
        with mock.patch.multiple(signal, pidfd_send_signal=_refuse):
            for target, name, value in patches:
                patch = mock.patch.object(target, name, value)
                patch.start()
                world.patched.append(patch)
            yield
    finally:
        for patch in reversed(world.patched):
            patch.stop()
        world.patched.clear()
        logging.disable(disabled)
        random.setstate(state)


def _refuse(*_args: object) -> None:
    raise AssertionError("a simulation signals no real process")
