"""Files that may hold secrets or commands: owner and mode are checked before RLM reads or keeps anything there."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from contextlib import suppress
from pathlib import Path

from rlm.core.errors import UnsafeError

#: The largest configuration file that is read, bytes.
LARGEST_FILE = 1_000_000
DIRECTORY_MODE, FILE_MODE = 0o700, 0o600
#: Links are not followed, and pipes do not block.
CAREFUL = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_trusted(path: Path) -> bytes:
    """Return the content of a regular file of at most `LARGEST_FILE` bytes that no other user can change.

    Raises:
        UnsafeError: another user can change it, or it is not such a file: reading a pipe or a device may block.
        OSError: it cannot be read.
    """
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > LARGEST_FILE:
        what = f"file {path}: cannot be read: it is no regular file of at most {LARGEST_FILE:,} bytes"
        raise UnsafeError(what, "name another file")
    if facts.st_uid not in {0, os.geteuid()}:
        owner = user_name(facts.st_uid)
        what = f"file {path}: it belongs to {owner}, who can change what RLM does"
        raise UnsafeError(what, f"run RLM as {owner}, or, if its content is yours, chown it")
    if facts.st_mode & stat.S_IWOTH:
        raise UnsafeError(f"file {path}: others can change it", f"chmod o-w {shlex.quote(str(path))}")
    return path.read_bytes()


def user_name(uid: int) -> str:
    """Return the name of a user, or the number if it has no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def claim_directory(directory: Path) -> None:
    """Make `directory` if it is missing, and close it to other users.

    Raises:
        UnsafeError: it is a link or a file, or another user's.
        OSError: it cannot be made.
    """
    directory.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        directory.mkdir(mode=DIRECTORY_MODE)
    require_own(directory)
    if stat.S_IMODE(directory.stat().st_mode) != DIRECTORY_MODE:
        directory.chmod(DIRECTORY_MODE)


def require_own(directory: Path) -> None:
    """Raise an UnsafeError unless `directory` is a directory of this user, and an OSError if it is missing."""
    facts = directory.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        owner, us = user_name(facts.st_uid), user_name(os.geteuid())
        what = f"{str(directory)!r} is not a directory of user {us}, but of {owner}, or a file or a link"
        raise UnsafeError(what, f"run RLM as {owner}, or, if what is there is yours, chown or remove it")
