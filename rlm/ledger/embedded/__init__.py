"""The embedded server: a real Valkey in a directory, for a host without its own Redis.

Its first user starts it, and its last user stops it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import quote

from rlm.core.errors import StoreError
from rlm.core.files import claim_directory, is_own_directory
from rlm.ledger.embedded.files import FileLock, held, locked
from rlm.ledger.embedded.process import ValkeyProcess

#: The server's own limit for an argument, bytes.
LONGEST_BULK = 512 * 1024 * 1024

log = logging.getLogger(__name__)


class EmbeddedServer:
    """This process's use of the Valkey server in a directory; each directory has one server, whoever starts it.

    There are three locks in the directory. `start.lock` is held alone to start or stop the server, and shared to join a
    running one. `users.lock` is shared by all users. `server.lock` is held by the server itself. The kernel releases a
    lock when its holder dies, so a killed user does not count, and a server that outlived all its users is taken over
    by the next user.

    Example:
        >>> with EmbeddedServer(Path(".rlm")) as server:
        ...     client = make_client(server.url)
    """

    def __init__(self, data_dir: Path, port: int = 0, longest: int = LONGEST_BULK) -> None:
        """Describe the server of `data_dir`. With `port` it also listens on that port of 127.0.0.1.

        A command with an argument of more than `longest` bytes is refused before it is read.
        """
        self.data_dir = _located(data_dir)
        self._port = port
        self._longest = longest
        self._process = ValkeyProcess(self.data_dir)
        self._users: FileLock | None = None
        self._joined_by = self._begun_by = 0

    @property
    def url(self) -> str:
        """Its URL, for redis-py and Dramatiq."""
        return f"unix://{quote(str(self._process.socket_path))}"

    def begin(self) -> bool:
        """Start the server unless it runs, without waiting for it, which `join` does; return whether it was started.

        Call `leave` at the end, which stops the server even if nobody joined it.

        Raises:
            StoreError: it cannot be started, or the directory cannot be used.
        """
        with self._directory(), locked(self.data_dir / "start.lock"):
            begun = self._process.begin()
            self._begun_by = os.getpid() if begun else 0
        return begun

    def join(self) -> str:
        """Use the server, starting it if necessary; return its URL.

        A user may join again; if the server has ended meanwhile, it is started with all its data.

        Raises:
            StoreError: it cannot be started, its port is taken, or the directory cannot be used.
        """
        start_lock = self.data_dir / "start.lock"
        self._begun_by = 0  # `leave` need not wait for a server that does not come up here
        with self._directory():
            if not self._port:  # with a port, the last user may have to stop it again
                with locked(start_lock, shared=True):
                    if self._process.admit(self._longest):
                        self._enter()
                        return self.url
            with locked(start_lock):
                self._process.ensure(self._longest)
                users = self._enter()
                if self._port:
                    try:
                        self._process.listen(self._port)
                    except StoreError:
                        self._part(users)
                        raise
        return self.url

    def revive(self) -> None:
        """Join again if the server has ended. A server that lives but does not answer is left alone.

        If the directory was removed, with all data, the server starts in a new one, like a Redis that comes back empty.

        Raises:
            StoreError: it cannot be started, or its port is taken.
        """
        if running(self.data_dir):
            return
        if not self._process.lock_path.exists():
            told = "The data directory %s was removed: the embedded server starts in a new one, with nothing of the old"
            log.warning(told, self.data_dir, extra={"action": "revive"})
        self.join()

    def leave(self) -> None:
        """Stop using the server, which ends with its last user. In a fork, or without a join, it is left alone.

        Raises:
            StoreError: this was the last user and the server does not stop.
        """
        if self._users is None and self._begun_by == os.getpid():
            self.join()  # a server that has not come up yet cannot be stopped
        if self._users is None:
            return
        if self._joined_by != os.getpid():
            self._forget()
            return
        with self._directory(), locked(self.data_dir / "start.lock"):
            self._part(self._users)

    def __enter__(self) -> Self:
        self.join()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    @contextmanager
    def _directory(self) -> Iterator[None]:
        try:
            claim_directory(self.data_dir)
            yield
        except OSError as error:
            raise StoreError(
                f"the embedded server cannot use {str(self.data_dir)!r} ({error}): "
                "make that possible, or set redis.url to another server"
            ) from error

    def _enter(self) -> FileLock:
        if self._joined_by != os.getpid():
            self._forget()  # a fork that joins must be a separate user
        if self._users is None:
            self._users = FileLock(self.data_dir / "users.lock")
            self._users.share()
            self._joined_by = os.getpid()
        return self._users

    def _part(self, users: FileLock) -> None:
        last = users.try_alone()
        users.release()  # closing is not enough, because a fork may have a copy
        self._forget()
        if not last:
            return
        self._process.stop()
        with FileLock(self.data_dir / "users.lock") as current:  # another file if the directory was removed
            if held(self._process.lock_path) and current.try_alone():
                self._process.stop()  # the server that one of us revived in the new directory

    def _forget(self) -> None:
        users, self._users = self._users, None
        if users is not None:
            users.close()


def running(data_dir: Path) -> bool:
    """Return whether a server of this user runs in `data_dir`. This starts nothing."""
    return is_own_directory(data_dir) and held(_located(data_dir) / "server.lock")


def _located(data_dir: Path) -> Path:
    """Return a unique path for the directory, with links on the way resolved, but not a link in its place."""
    return data_dir.parent.resolve() / data_dir.name
