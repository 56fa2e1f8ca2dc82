"""One cooperative scheduler with fake time: every simulated thread is a greenlet, and time passes only in waits.

The next task depends only on the times for which tasks wait and, among equal times, on their order. So a run is a
function of its seed.
"""

from __future__ import annotations

import heapq
import itertools
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import greenlet

if TYPE_CHECKING:
    from collections.abc import Callable

#: The wall clock at the beginning of a simulation, seconds since 1970: a multiple of every period used here.
EPOCH = 1_700_000_400.0


@dataclass(frozen=True, slots=True)
class Doom:
    """A process is `killed`, or `frozen` for some seconds, at its first call to Redis from number `after` on.

    With `at`, at its first call of that script from then on.
    """

    what: str
    after: int
    seconds: float
    at: str | None = None


class Host:
    """One simulated process: its tasks continue while it lives, and stop while it is frozen."""

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.dead = False
        self.frozen_until = 0.0
        #: Calls to Redis so far, and the fault of the process at a later one.
        self.calls = 0
        self.doom: Doom | None = None
        #: When the last fault hit this process, in seconds of the simulation.
        self.hit_at = float("-inf")
        self.on_death: list[Callable[[], None]] = []

    def hit(self, at: float) -> None:
        self.hit_at = max(self.hit_at, at)


class Task(greenlet.greenlet):
    """One simulated thread of a host. `token` numbers its waits, so that a wake-up for an earlier one is void."""

    host: Host
    token: int


class Event:
    """`threading.Event` in simulated time."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._set = False
        self._waiters: list[tuple[Task, int]] = []

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        waiters, self._waiters = self._waiters, []
        for task, token in waiters:
            self._loop.resume(task, token)

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self._set:
            self._waiters.append(self._loop.next_wait())
            self._loop.sleep(1e9 if timeout is None else timeout, instant=False)
        return self._set


class Loop:
    """Runs the tasks in the order of simulated time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.closed = False
        self.crashes: list[tuple[str, str]] = []
        self.switches = 0
        self._until = 0.0
        self._due: list[tuple[float, int, Task | None, int, Callable[[], None] | None]] = []
        self._numbers = itertools.count()
        self._tasks: dict[Task, None] = {}
        self._hub = greenlet.getcurrent()

    # -- for the outside

    def spawn(self, host: Host, function: Callable[..., object], *args: Any, after: float = 0.0) -> Task:
        """Start a task of `host` in `after` seconds. An exception that leaves it is a crash of the host."""

        def run() -> None:
            try:
                function(*args)
            except Exception as error:  # noqa: BLE001  # whatever it is, the process would have died of it
                if not self.closed:
                    self.crashes.append((host.name, "".join(traceback.format_exception(error)[-3:])))
                    self.kill(host)
            finally:
                self._tasks.pop(task, None)

        task = Task(run, self._hub)
        task.host, task.token = host, 0
        self._tasks[task] = None
        self._push(self.now + after, task, 0, None)
        return task

    def call_at(self, at: float, function: Callable[[], None]) -> None:
        """Call `function`, which must not wait, at a moment."""
        self._push(max(at, self.now), None, 0, function)

    def run(self, until: float) -> None:
        """Let time pass until a moment."""
        self._until = until
        due = self._due
        while due and due[0][0] <= until:
            at, _, task, token, function = heapq.heappop(due)
            if task is None:
                self.now = max(self.now, at)
                if function is not None:
                    function()
                continue
            if task.token != token or task.host.dead or task.dead:
                continue
            if task.host.frozen_until > at:
                self._push(task.host.frozen_until, task, token, None)
                continue
            self.now = max(self.now, at)
            self.switches += 1
            task.switch()
        self.now = max(self.now, until)

    def kill(self, host: Host) -> None:
        """End a process at once; a task of its own that calls this does not return."""
        if host.dead:
            return
        host.dead = True
        host.hit(self.now)
        for notice in host.on_death:
            notice()
        if self.host is host:
            self._hub.switch()

    def freeze(self, host: Host, seconds: float) -> None:
        """Stop a process for some time (STOP, then CONT)."""
        host.frozen_until = max(host.frozen_until, self.now + seconds)
        host.hit(host.frozen_until)
        if self.host is host:
            self.sleep(0.0, instant=False)

    def close(self) -> None:
        """End all waiting tasks, without effects on the simulated world."""
        self.closed = True
        while self._tasks:
            task, _ = self._tasks.popitem()
            if task:  # has begun and not ended
                try:
                    task.throw(greenlet.GreenletExit)
                except Exception:  # noqa: BLE001  # the end of a dead process is nobody's business
                    continue
        self._due.clear()

    # -- for tasks

    @property
    def host(self) -> Host | None:
        """The process whose task is running, None between tasks."""
        return getattr(greenlet.getcurrent(), "host", None)

    def sleep(self, seconds: float, *, instant: bool = True) -> None:
        """Wait. If nothing else happens meanwhile, time simply jumps, unless `instant` is false."""
        if self.closed:
            raise greenlet.GreenletExit
        at = self.now + max(0.0, seconds)
        task = greenlet.getcurrent()
        if instant and at <= self._until and (not self._due or self._due[0][0] > at) and task.host.frozen_until <= at:
            self.now = at
            return
        task.token += 1
        self._push(at, task, task.token, None)
        self._hub.switch()
        if self.closed:
            raise greenlet.GreenletExit

    def next_wait(self) -> tuple[Task, int]:
        """Return the identity of the running task's next wait, for `resume`."""
        task = greenlet.getcurrent()
        return task, task.token + 1

    def resume(self, task: Task, token: int) -> None:
        """Let a task continue now if it is still in that wait."""
        if task.token == token:
            self._push(self.now, task, token, None)

    def _push(self, at: float, task: Task | None, token: int, function: Callable[[], None] | None) -> None:
        heapq.heappush(self._due, (at, next(self._numbers), task, token, function))
