"""The embedded server: a real Valkey in a directory, for a host without its own Redis.

The first process that joins it starts it, and the last one that leaves it stops it.
"""

from __future__ import annotations

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


class EmbeddedServer:
    """This process's use of the Valkey server in a directory; each directory has one server, whoever starts it.

    There are three locks in the directory. `start.lock` is held to start, join or stop the server. `users.lock` is
    shared by all who have joined. `server.lock` is held by the server itself. The kernel releases a lock when its
    holder dies, so a killed user does not count, and a server that outlived all its users serves the next one.

    Example:
        >>> with EmbeddedServer(Path(".rlm")) as server:
        ...     client = make_client(server.url)
    """

    def __init__(self, data_dir: Path, port: int = 0, longest: int = LONGEST_BULK, lease: str = "") -> None:
        """Describe the server of `data_dir`. With `port` it also listens on that port of 127.0.0.1.

        A command with an argument of more than `longest` bytes is refused before it is read. In the hash `lease` it is
        noted when the server is stopped in order.
        """
        self.data_dir = _located(data_dir)
        self._process = ValkeyProcess(self.data_dir, port, longest, lease)
        self._users: FileLock | None = None

    @property
    def url(self) -> str:
        """Its URL, for redis-py and Dramatiq."""
        return f"unix://{quote(str(self._process.socket_path))}"

    def join(self) -> str:
        """Use the server, starting it with all its data unless it runs; return its URL. A user may join again.

        Raises:
            StoreError: it cannot be started, or the directory cannot be used.
        """
        with self._starting():
            self._process.ensure()
            self._part()  # the directory may be another one since the last join
            self._users = FileLock(self.data_dir / "users.lock")
            self._users.share()
        return self.url

    def revive(self) -> None:
        """Join again if the server has ended. One that lives but does not answer is left alone.

        Raises:
            StoreError: it cannot be started.
        """
        if not running(self.data_dir):
            self.join()

    def leave(self) -> None:
        """Stop using the server, which ends with its last user. Without a join, do nothing.

        Raises:
            StoreError: this was the last user and the server does not stop.
        """
        if self._users is None:
            return
        with self._starting():
            if self._part():
                self._process.stop()

    def __enter__(self) -> Self:
        self.join()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    @contextmanager
    def _starting(self) -> Iterator[None]:
        try:
            claim_directory(self.data_dir)
            with locked(self.data_dir / "start.lock"):
                yield
        except OSError as error:
            raise StoreError(
                f"the embedded server cannot use {str(self.data_dir)!r} ({error}): "
                "make that possible, or set redis.url to another server"
            ) from error

    def _part(self) -> bool:
        """Give up the share of `users.lock`; return whether nobody else has one."""
        users, self._users = self._users, None
        if users is None:
            return False
        with users:
            last = users.try_alone()
            users.release()  # closing is not enough, because a fork may have a copy
        return last


def running(data_dir: Path) -> bool:
    """Return whether a server of this user runs in `data_dir`. This starts nothing."""
    return is_own_directory(data_dir) and held(_located(data_dir) / "server.lock")


def _located(data_dir: Path) -> Path:
    """Return a unique path for the directory, with links on the way resolved, but not a link in its place."""
    return data_dir.parent.resolve() / data_dir.name
