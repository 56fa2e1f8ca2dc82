"""Directories and files that are this user's alone: where RLM writes nobody else can lead it elsewhere.

Files are opened by the descriptor of their directory, so a directory that is swapped meanwhile changes nothing.
"""

from __future__ import annotations

import os
import secrets
import shlex
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rlm.core.errors import UnsafeError
from rlm.core.trust import LARGEST_FILE, others, user_name, weakness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
#: No link is followed, and no pipe is waited for.
CAREFUL = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@contextmanager
def opened_directory(directory: Path, *, make: bool = True) -> Iterator[int]:
    """Yield a descriptor of `directory`, which is closed to everybody else; it is made if it is missing and `make`.

    Raises:
        UnsafeError: it is a link or another user's, or others could write to it and left something in it.
        OSError: it cannot be made or opened.
    """
    if make:
        directory.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            directory.mkdir(mode=DIRECTORY_MODE)
    _require_own(directory, directory.lstat())
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | CAREFUL)
    try:
        _require_own(directory, os.fstat(descriptor))
        _close_to_others(directory, descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def claim_directory(directory: Path) -> None:
    """Make `directory` if it is missing, and close it to everybody else, for a program that goes by its path.

    Raises:
        UnsafeError: as `opened_directory`, or another user could put another directory in its place.
        OSError: it cannot be made or opened.
    """
    directory.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    if found := weakness(directory.parent):
        raise UnsafeError(f"{str(directory)!r} is not safe: {found.what}", found.remedy)
    with opened_directory(directory):
        pass


def is_own_directory(directory: Path) -> bool:
    """Return whether `directory` is one of this user, and no link to one."""
    try:
        facts = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid()


def open_own(directory: int, name: str, flags: int) -> int:
    """Open the file `name` in `directory` with `flags`; one that is made is this user's alone.

    Raises:
        UnsafeError: it is no regular file, or another user's.
        OSError: it is a link, or cannot be opened.
    """
    file = os.open(name, flags | CAREFUL, FILE_MODE, dir_fd=directory)
    facts = os.fstat(file)
    if stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid():
        return file
    os.close(file)
    raise UnsafeError(f"{name!r} is not a file of {user_name(os.geteuid())}", "see who made it, and remove it")


def read_own(path: Path) -> bytes:
    """Return the content of a small file of this user's in a directory of this user's.

    Raises:
        UnsafeError: one of them is another user's, or a link.
        OSError: it cannot be read.
    """
    with opened_directory(path.parent, make=False) as directory:
        file = open_own(directory, path.name, os.O_RDONLY)
        with os.fdopen(file, "rb") as opened:
            return opened.read(LARGEST_FILE)


def replace_own(path: Path, content: bytes) -> None:
    """Write a file as a whole; whatever is in its place, a link for instance, is replaced and not followed.

    Raises:
        UnsafeError: its directory is another user's, or a link.
        OSError: it cannot be written; it is as it was.
    """
    with opened_directory(path.parent) as directory:
        replace_in(directory, path.name, content, FILE_MODE)


def replace_in(directory: int, name: str, content: bytes, mode: int, exactly: int | None = None) -> None:
    """Write the file `name` of `directory` as a whole, by another beside it whose name nobody can guess.

    It gets `mode` as far as the umask allows, or `exactly` the one that is given.

    Raises:
        OSError: it cannot be written; it is as it was.
    """
    beside = f"{name}.{secrets.token_hex(8)}"
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | CAREFUL, mode, dir_fd=directory)
    try:
        with os.fdopen(file, "wb") as opened:
            if exactly is not None:
                os.fchmod(file, exactly)
            opened.write(content)
        os.replace(beside, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=directory)
        raise


def _require_own(directory: Path, facts: os.stat_result) -> None:
    us = user_name(os.geteuid())
    if not stat.S_ISDIR(facts.st_mode):
        kind = "a link" if stat.S_ISLNK(facts.st_mode) else "no directory"
        raise UnsafeError(
            f"{str(directory)!r} is not a directory of user {us} but {kind}, made by {user_name(facts.st_uid)}",
            f"see what it is, and remove it: rm {shlex.quote(str(directory))}",
        )
    if facts.st_uid != os.geteuid():
        owner = user_name(facts.st_uid)
        raise UnsafeError(
            f"{str(directory)!r} is not a directory of user {us} but of {owner}",
            f"run RLM as {owner}, or, if what is in it is yours: chown -R {us} {shlex.quote(str(directory))}",
        )


def _close_to_others(directory: Path, descriptor: int) -> None:
    """Close it, and see that nobody has left anything in it; else it stays as it was, for the next look to find."""
    facts = os.fstat(descriptor)
    before = stat.S_IMODE(facts.st_mode)
    if before != DIRECTORY_MODE:
        os.fchmod(descriptor, DIRECTORY_MODE)
    was_open = bool(others(facts) & _OTHERS_WRITE)
    with os.scandir(descriptor) as entries:
        foreign = next((one.name for one in entries if _is_foreign(one.stat(follow_symlinks=False), was_open)), None)
    if foreign is not None:
        os.fchmod(descriptor, before)
        path = directory / foreign
        raise UnsafeError(
            f"{str(path)!r} may be another user's: RLM did not make it",
            f"see what it is, and remove it: rm -r {shlex.quote(str(path))}",
        )


def _is_foreign(facts: os.stat_result, was_open: bool) -> bool:
    """Return whether another user made an entry, or could have: into an open directory one can link files of ours."""
    linked = stat.S_ISLNK(facts.st_mode) or (stat.S_ISREG(facts.st_mode) and facts.st_nlink > 1)
    return facts.st_uid not in {0, os.geteuid()} or (was_open and linked)
