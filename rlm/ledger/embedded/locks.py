"""Locks between processes, which the kernel drops when their holder ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.core.files import CAREFUL, FILE_MODE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: How often a lock or a server is asked again, seconds.
POLL_SECONDS = 0.01
#: How long a process waits for others that start or stop the server, seconds: longer than a start may take.
WAIT_SECONDS = 60.0


class FileLock:
    """An `flock` on one file, made if missing.

    It belongs to the open file, which forked and spawned processes share: closing drops it only with the last copy,
    `release` drops it for all of them.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | CAREFUL, FILE_MODE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def share(self) -> None:
        """Hold it together with others; wait while one holds it alone."""
        fcntl.flock(self.descriptor, fcntl.LOCK_SH)

    def try_alone(self) -> bool:
        """Hold it alone, or return False at once where others hold it."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Drop it for every process that has this open file."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Forget this process's copy of the open file."""
        os.close(self.descriptor)


def held(path: Path) -> bool:
    """Return whether anyone holds the lock at `path`; makes no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | CAREFUL)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP}:  # a link is no lock of ours
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
def alone(path: Path) -> Iterator[None]:
    """Hold the lock at `path` alone.

    Raises:
        StoreError: others held it for `WAIT_SECONDS`.
    """
    deadline = system_clock.monotonic() + WAIT_SECONDS
    with FileLock(path) as lock:
        while not lock.try_alone():
            if system_clock.monotonic() > deadline:
                raise StoreError(
                    f"another process has held {str(path)!r} for {WAIT_SECONDS:.0f} s: "
                    "it starts or stops the embedded server and does not get on; end it and try again"
                )
            system_clock.sleep(POLL_SECONDS)
        try:
            yield
        finally:
            lock.release()  # a process forked meanwhile has a copy, which would keep it
