"""Files that may hold secrets or commands: owner and mode are checked before RLM keeps anything there."""

from __future__ import annotations

import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path

from rlm.core.errors import UnsafeError

DIRECTORY_MODE, FILE_MODE = 0o700, 0o600
#: Links are not followed, and pipes do not block.
CAREFUL = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


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
