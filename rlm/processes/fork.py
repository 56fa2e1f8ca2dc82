"""Processes that are forked from this one, which share with it all that it has imported, and its memory before that.

A fork copies one thread and every connection. So a process is forked in a moment when it has no other thread. One that
has threads of its own keeps a template: an idle copy, made before they were, which forks on its behalf. `rlm start
--wait` makes a spare, a copy that waits to be its supervisor.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, NoReturn, Self

import msgspec
from setproctitle import setproctitle

from rlm.core.clock import system_clock
from rlm.processes.signals import GRACEFUL, unblock

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

#: How long a template may take to answer, seconds: its first answer, since a fresh one imports first, on a host with
#: too much to do for long; and any other. Meanwhile the process that has it does nothing else.
FIRST_SECONDS = 60.0
ANSWER_SECONDS = 5.0
END_SECONDS = 1.0  #: the same to end
_POLL_SECONDS = 0.01

log = logging.getLogger(__name__)


def is_alone() -> bool:
    """Return whether this process has one thread only, so that a fork of it lacks nothing."""
    return threading.active_count() == 1


def fork(target: Callable[..., None], *args: Any) -> int:
    """Fork a process that is `target(*args)`, without exit handlers; return its pid, or raise an OSError."""
    sys.stdout.flush()  # else both would print what is buffered
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _become(target, args)
    return pid


def _become(target: Callable[..., None], args: tuple[Any, ...]) -> NoReturn:
    code = 1
    try:
        target(*args)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001  # nothing of it may go on in the copy
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


class Forked(msgspec.Struct):
    """A process that a template has forked, as its supervisor has it."""

    template: Template
    pid: int
    exitcode: int | None = None  #: as `subprocess` has it; None if it is not known

    def join(self) -> None:
        """Collect it once it has died: only its parent, the template, can learn how."""
        self.exitcode = self.template.collect(self.pid)


class Template:
    """A process that forks others, each of which is `target(lifeline, *args)`; used as a context manager.

    The `lifeline` becomes readable when the process that has this template is gone. The template ends then by itself;
    what it forked sees to that itself.

    The first template is a fork of this process. One that was killed is replaced by a fresh interpreter, which takes
    longer: by then this process has threads.
    """

    def __init__(self, target: Callable[..., None]) -> None:
        self._target = target
        self._lifeline, self._life = multiprocessing.Pipe(duplex=False)
        self._orders: Connection | None = None
        self._process: BaseProcess | None = None
        self._has_answered = False

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._give_up()

    @property
    def pid(self) -> int | None:
        """Its process id; None if there is none at the moment."""
        return self._process.pid if self._process else None

    def spawn(self, *args: Any) -> Forked:
        """Fork a process, by another template if this one is gone; raise an OSError if the host has none to give."""
        try:
            return Forked(self, self._ask(args))
        except ConnectionError:
            log.warning("The template of the workers is gone, and is replaced", extra={"action": "replace_template"})
            self._start()
            return Forked(self, self._ask(args))

    def collect(self, pid: int) -> int | None:
        """Return the exit status of a process that has died, negative for a signal; None if its template is gone."""
        with suppress(OSError):
            return int(self._ask(pid))
        return None

    def _start(self) -> None:
        alone = is_alone()
        orders, theirs = multiprocessing.Pipe()
        not_theirs = [orders, self._life] if alone else []
        os.environ["PYTHONSAFEPATH"] = "1"  # else a fresh interpreter imports from the current directory first
        context: Any = multiprocessing.get_context("fork" if alone else "spawn")
        args = theirs, self._lifeline, not_theirs, self._target
        process = context.Process(target=_serve, args=args, daemon=False)
        process.start()
        self._process = process
        self._orders, self._has_answered = orders, False
        theirs.close()

    def _ask(self, order: Any) -> Any:
        if self._orders is None:
            raise ConnectionError("there is no template of the workers")
        answer, seconds = None, ANSWER_SECONDS if self._has_answered else FIRST_SECONDS
        with suppress(EOFError, ConnectionError):
            self._orders.send(order)
            answer = self._orders.recv() if self._orders.poll(seconds) else None
        if answer is None:
            self._give_up()
            raise ConnectionError("the template of the workers does not answer")
        self._has_answered = True
        if isinstance(answer, OSError):
            raise answer
        return answer

    def _give_up(self) -> None:
        """End the template: one whose orders end goes by itself, but for one that hangs."""
        process, self._process = self._process, None
        if process is None or self._orders is None:
            return
        self._orders.close()
        self._orders = None
        until = system_clock.monotonic() + END_SECONDS
        while process.exitcode is None and system_clock.monotonic() < until:
            system_clock.sleep(_POLL_SECONDS)  # to join it with a time-out is to wait for what it forked as well
        if process.exitcode is None:
            process.kill()
            process.join()


def _serve(orders: Connection, lifeline: Connection, not_ours: list[Connection], target: Callable[..., None]) -> None:
    """Be a template: fork for arguments, collect for a pid, until nobody orders any more.

    It leads a session of its own, so that signals to the supervisor's group do not reach it, and blocks those that ask
    to stop. What it forks inherits the block: a signal that comes before it listens waits until it does.
    """
    os.setsid()
    signal.pthread_sigmask(signal.SIG_BLOCK, GRACEFUL)
    for connection in not_ours:
        connection.close()
    setproctitle("rlm template")
    with suppress(EOFError, ConnectionError):
        while True:
            order = orders.recv()
            try:
                if isinstance(order, int):
                    orders.send(os.waitstatus_to_exitcode(os.waitpid(order, 0)[1]))
                else:
                    _fork_off(orders, lifeline, target, order)
            except ConnectionError:
                raise
            except OSError as error:
                orders.send(error)


def _fork_off(orders: Connection, lifeline: Connection, target: Callable[..., None], args: tuple[Any, ...]) -> None:
    """Fork, and answer with the pid. One that nobody has heard of does not begin: its owner has another by then."""
    word, begin = os.pipe()

    def be() -> None:
        os.close(begin)
        orders.close()
        if os.read(word, 1):
            os.close(word)
            target(lifeline, *args)

    try:
        orders.send(fork(be))
        os.write(begin, b"!")
    finally:
        os.close(word)
        os.close(begin)


def settle_memory() -> None:
    """Give back what only the imports needed, and have the garbage collector leave the rest alone.

    Modules without bytecode are compiled, which leaves 10 MB that malloc keeps. A collection looks at each object that
    is there, and a fork would get a copy of its own of every page of them.
    """
    import ctypes  # noqa: PLC0415  # who starts something does not wait for it

    gc.collect()
    gc.freeze()
    gc.enable()  # a copy that was made amid imports has it off
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # musl has none
        libc.malloc_trim(0)


class Spare:
    """A copy of this process that waits to be `target()`, as a member of a `ProcessGroup`; used as a context manager.

    Make it before this process has threads and connections. It leads a session of its own, so that Ctrl-C is for this
    process, and gets TERM when this process dies. The `target` is given what waits until it is told to begin, and
    returns whether it is: it does beforehand what can be done. It writes to `stdout` if it is `piped`, else to stderr.
    """

    def __init__(self, target: Callable[[Callable[[], bool]], None], *, piped: bool = False) -> None:
        self._begun = False
        self._returncode: int | None = None
        word, self._word = os.pipe()
        reader, output = os.pipe() if piped else (None, 2)
        signal.pthread_sigmask(signal.SIG_BLOCK, GRACEFUL)  # one that comes before it listens waits until then
        try:
            self.pid = fork(self._be, os.getpid(), word, output, target)
        finally:
            unblock(GRACEFUL)
            os.close(word)
            if piped:
                os.close(output)
        self.stdout: IO[bytes] | None = os.fdopen(reader, "rb") if reader is not None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self._word)
        if not self._begun and self.poll() is None:
            self._reap(0)

    def begin(self) -> None:
        """Make it what it is for. It lets signals through once it listens to them."""
        self._begun = True
        with suppress(BrokenPipeError):  # it has died, as `poll` says
            os.write(self._word, b"!")

    def poll(self) -> int | None:
        """Return its exit status, negative for a signal; None while it runs."""
        if self._returncode is None:
            self._reap(os.WNOHANG)
        return self._returncode

    def _reap(self, how: int) -> None:
        pid, status = os.waitpid(self.pid, how)
        self._returncode = os.waitstatus_to_exitcode(status) if pid else None

    def send_signal(self, sig: int) -> None:
        """Send it a signal; one that has ended gets none."""
        if self.poll() is None:
            os.kill(self.pid, sig)

    def _be(self, parent: int, word: int, output: int, target: Callable[[Callable[[], bool]], None]) -> None:
        os.setsid()
        os.close(self._word)
        for stream, file in enumerate((os.open(os.devnull, os.O_RDONLY), output, output)):
            os.dup2(file, stream)
        target(lambda: die_with(parent) and bool(os.read(word, 1)))


def die_with(parent: int) -> bool:
    """Arrange for this process to get TERM when its `parent` dies; return False if that has happened."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415  # nobody else needs it

        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    return os.getppid() == parent
