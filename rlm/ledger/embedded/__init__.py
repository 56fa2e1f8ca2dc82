"""The embedded server: a real Valkey in a directory, for a host without a Redis of its own.

Its first user starts it, the last one to leave stops it.
"""

from __future__ import annotations

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

#: What a server admits by itself, bytes.
LONGEST_BULK = 512 * 1024 * 1024


class EmbeddedServer:
    """This process's use of the Valkey server in a directory: one server a directory, whoever starts it.

    Three locks in the directory: `start.lock`, held alone while one starts or stops the server, and shared by those who
    join one that runs; `users.lock`, shared by all who use it; `server.lock`, held by the server itself. The kernel
    drops each with its holder, so a killed user is no user, and a server that outlived all its users is taken over by
    the next.

    Example:
        >>> with EmbeddedServer(Path(".rlm")) as server:
        ...     client = make_client(server.url)
    """

    def __init__(self, data_dir: Path, port: int = 0, longest: int = LONGEST_BULK) -> None:
        """Name the server of `data_dir`. With `port` it listens on that port of 127.0.0.1 as well.

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
        """Where it answers, for redis-py and Dramatiq."""
        return f"unix://{quote(str(self._process.socket_path))}"

    def begin(self) -> bool:
        """Start the server unless one runs, without waiting for it: `join` does. Return whether it was started.

        In the end, `leave`, which stops it also if nobody joined it.

        Raises:
            StoreError: it cannot be started, or the directory cannot be used.
        """
        with self._directory(), locked(self.data_dir / "start.lock"):
            begun = self._process.begin()
            self._begun_by = os.getpid() if begun else 0
        return begun

    def join(self) -> str:
        """Use the server, starting it unless it runs; return its URL.

        A user may join again: if the server has ended meanwhile, it is started with all its data.

        Raises:
            StoreError: it cannot be started, its port is taken, or the directory cannot be used.
        """
        start_lock = self.data_dir / "start.lock"
        self._begun_by = 0  # `leave` need not wait for what does not come up here
        with self._directory():
            if not self._port:  # else the last user may have to stop it again
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
        """Join again if the server has ended. One that lives and does not answer is not waited for.

        Raises:
            StoreError: it cannot be started, or its port is taken.
        """
        if not running(self.data_dir):
            self.join()

    def leave(self) -> None:
        """Stop using the server, which ends with its last user. Without a join, and in a fork, nothing happens to it.

        Raises:
            StoreError: it was the last user and the server does not stop.
        """
        if self._users is None and self._begun_by == os.getpid():
            self.join()  # one that has not come up yet cannot be stopped
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
            self._forget()  # a fork that joins must be a user of its own
        if self._users is None:
            self._users = FileLock(self.data_dir / "users.lock")
            self._users.share()
            self._joined_by = os.getpid()
        return self._users

    def _part(self, users: FileLock) -> None:
        last = users.try_alone()
        users.release()  # not left to closing: a fork may have a copy
        self._forget()
        if last:
            self._process.stop()

    def _forget(self) -> None:
        users, self._users = self._users, None
        if users is not None:
            users.close()


def running(data_dir: Path) -> bool:
    """Return whether a server of this user runs in `data_dir`; starts nothing."""
    return is_own_directory(data_dir) and held(_located(data_dir) / "server.lock")


def _located(data_dir: Path) -> Path:
    """Return one path for the directory, whichever links lead to it. A link itself is not followed."""
    return data_dir.parent.resolve() / data_dir.name
