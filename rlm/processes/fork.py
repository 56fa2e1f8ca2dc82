"""Processes forked from this one: they share its imports and its memory so far.

A fork copies one thread and every connection, so a process must have no other thread when it is forked. A process with
threads keeps a template: an idle copy, made before the threads, that forks on its behalf. `rlm start --wait` makes a
spare: a copy that waits to become its supervisor.
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

#: Seconds that a template may take to answer: the first time, because a fresh one imports first on a host that may be
#: overloaded, and every other time. Its owner does nothing else meanwhile.
FIRST_SECONDS = 60.0
ANSWER_SECONDS = 5.0
END_SECONDS = 1.0  #: seconds that it may take to end
_POLL_SECONDS = 0.01

log = logging.getLogger(__name__)


def is_alone() -> bool:
    """Return whether this process has only one thread, so that a fork of it is complete."""
    return threading.active_count() == 1


def fork(target: Callable[..., None], *args: Any) -> int:
    """Fork a process that runs `target(*args)` without exit handlers; return its pid, or raise an OSError."""
    sys.stdout.flush()  # otherwise both would print what is buffered
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
    except BaseException:  # noqa: BLE001  # no exception may leave the copy
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


class Forked(msgspec.Struct):
    """A process forked by a template, as its supervisor sees it."""

    template: Template
    pid: int
    exitcode: int | None = None  #: as in `subprocess`; None if it is not known

    def join(self) -> None:
        """Collect it once it has died: only its parent, the template, can learn how it ended."""
        self.exitcode = self.template.collect(self.pid)


class Template:
    """A process that forks others, each of which runs `target(lifeline, *args)`; a context manager.

    The `lifeline` becomes readable when the owner of this template is gone. The template then ends by itself; the
    processes that it forked must watch the lifeline themselves.

    The first template is a fork of this process. A killed one is replaced by a fresh interpreter, which starts more
    slowly: by then this process has threads.
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
        """Its process id; None if there is no template at the moment."""
        return self._process.pid if self._process else None

    def spawn(self, *args: Any) -> Forked:
        """Fork a process, by a new template if this one is gone; raise an OSError if the host has no room for it."""
        try:
            return Forked(self, self._ask(args))
        except ConnectionError:
            log.warning("The template of the workers is gone, and is replaced", extra={"action": "replace_template"})
            self._start()
            return Forked(self, self._ask(args))

    def collect(self, pid: int) -> int | None:
        """Return the exit status of a dead process, negative for a signal; None if its template is gone."""
        with suppress(OSError):
            return int(self._ask(pid))
        return None

    def _start(self) -> None:
        alone = is_alone()
        orders, theirs = multiprocessing.Pipe()
        not_theirs = [orders, self._life] if alone else []
        os.environ["PYTHONSAFEPATH"] = "1"  # otherwise a fresh interpreter imports from the current directory
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
        """End the template: it exits when its orders are closed; one that hangs is killed."""
        process, self._process = self._process, None
        if process is None or self._orders is None:
            return
        self._orders.close()
        self._orders = None
        until = system_clock.monotonic() + END_SECONDS
        while process.exitcode is None and system_clock.monotonic() < until:
            system_clock.sleep(_POLL_SECONDS)  # join with a time-out also waits for what it forked
        if process.exitcode is None:
            process.kill()
            process.join()


def _serve(orders: Connection, lifeline: Connection, not_ours: list[Connection], target: Callable[..., None]) -> None:
    """Run the template: fork for arguments, collect for a pid, until the orders are closed.

    It leads its own session, so signals to the supervisor's group do not reach it, and it blocks stop signals. Forks
    inherit the block: a signal that comes before a fork can handle it waits until it can.
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
    """Fork, and answer with the pid. If the answer fails the fork does nothing: its owner will start another."""
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
    """Exclude what is in memory from garbage collection, which would copy every page of a fork."""
    gc.collect()
    gc.freeze()
    gc.enable()  # it is off in a copy made amid imports


class Spare:
    """A copy of this process that waits to run `target()` as a member of a `ProcessGroup`; a context manager.

    Make it before this process has threads and connections. It leads its own session, so Ctrl-C reaches only this
    process, and it gets TERM when this process dies. `target` prepares what it can, then calls its argument, which
    waits for `begin` and returns whether it was called. Output goes to `stdout` if it is `piped`, else to stderr.
    """

    def __init__(self, target: Callable[[Callable[[], bool]], None], *, piped: bool = False) -> None:
        self._begun = False
        self._returncode: int | None = None
        word, self._word = os.pipe()
        reader, output = os.pipe() if piped else (None, 2)
        signal.pthread_sigmask(signal.SIG_BLOCK, GRACEFUL)  # a signal that comes too early waits until it is handled
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
        """Let the target run. It unblocks signals once it handles them."""
        self._begun = True
        with suppress(BrokenPipeError):  # it has died; `poll` reports that
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
        """Send it a signal, unless it has ended."""
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
