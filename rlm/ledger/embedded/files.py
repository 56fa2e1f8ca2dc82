"""The files of the embedded server: its data directory and socket, which nobody else can reach, and its locks."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.core.files import CAREFUL, FILE_MODE

#: The interval of checking a lock or a server, seconds.
POLL_SECONDS = 0.01
#: How long a process waits for others that start or stop the server, seconds; longer than a start may take.
WAIT_SECONDS = 60.0


class FileLock:
    """An `flock` on a file, which is created if missing.

    The lock belongs to the open file, which forked and spawned processes share. Closing releases it only with the last
    copy; `release` releases it for all of them.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | CAREFUL, FILE_MODE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def share(self) -> None:
        """Take a shared lock; wait while another holds it alone."""
        fcntl.flock(self.descriptor, fcntl.LOCK_SH)

    def try_alone(self) -> bool:
        """Take an exclusive lock, or return False at once if others hold it."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Release it for every process that has this open file."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close this process's copy of the open file."""
        os.close(self.descriptor)


def held(path: Path) -> bool:
    """Return whether anyone holds the lock at `path`. This creates no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | CAREFUL)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP}:  # a link is not a lock of RLM
            return False
        raise
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock at `path` exclusively.

    Raises:
        StoreError: others held it for `WAIT_SECONDS`.
    """
    deadline = system_clock.monotonic() + WAIT_SECONDS
    with FileLock(path) as lock:
        while not lock.try_alone():
            if system_clock.monotonic() > deadline:
                raise StoreError(
                    f"another process has held {str(path)!r} for {WAIT_SECONDS:.0f} s: it starts or stops the "
                    "embedded server and makes no progress; end it and try again"
                )
            system_clock.sleep(POLL_SECONDS)
        try:
            yield
        finally:
            lock.release()  # a process forked meanwhile has a copy, which would keep the lock


SOCKET_NAME = "valkey.sock"
#: A socket's path must fit in 104 bytes (macOS; 108 on Linux), including its end.
SOCKET_PATH_BYTES = 100
#: The place for sockets whose path is too long. `$TMPDIR` may differ between processes, which would miss each other.
SHORT_PLACE = Path("/tmp")  # noqa: S108 - in a directory that is refused unless it is ours alone


def socket_path(data_dir: Path) -> Path:
    """Return the socket path of the server in `data_dir`, which must be absolute."""
    path = data_dir / SOCKET_NAME
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return SHORT_PLACE / f"rlm-{os.geteuid()}-{digest}" / path.name


def is_own_socket(path: Path) -> bool:
    """Return whether `path` is the socket of an embedded server of this user, running or not."""
    place = path.parent
    short = place.parent == SHORT_PLACE and place.name.startswith(f"rlm-{os.geteuid()}-")
    return path.name == SOCKET_NAME and (short or (place / "server.lock").exists())
