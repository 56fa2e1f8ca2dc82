"""Safe files: read only what nobody else can change, and write only where nobody else can redirect RLM.

Before reading, every step of the path is checked, as ssh does. A step is trusted if this user or root owns it and no
other user may write to it. In a sticky directory others may add entries, but not replace those of this user or root.
The owner's private group, which many systems make for each user, may write because it has no other member.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import secrets
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from rlm.core.errors import UnsafeError

#: The largest configuration file that is read, bytes.
LARGEST_FILE = 1_000_000
_MOST_LINKS = 40
_ROOT = Path("/")
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}
DIRECTORY_MODE, FILE_MODE = 0o700, 0o600
#: Links are not followed and pipes do not block. Files are opened relative to a descriptor of their directory, so
#: replacing the directory in between has no effect.
CAREFUL = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Weakness(msgspec.Struct, frozen=True):
    """Why a file cannot be trusted, and the command that corrects it."""

    what: str
    remedy: str


def read_trusted(path: Path) -> bytes:
    """Return the content of a regular file of at most `LARGEST_FILE` bytes that nobody else can change.

    Raises:
        UnsafeError: somebody else can change it, or it is not such a file.
        OSError: it cannot be read.
    """
    require_regular(path)  # before opening, because opening a device may have effects and opening a pipe blocks
    if found := weakness(path):
        raise UnsafeError(f"file {path}: {found.what}", found.remedy)
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(file, "rb") as opened:
        require_regular(path, os.fstat(file))
        return opened.read(LARGEST_FILE)


def read_trusted_text(path: Path) -> str:
    """Return the same as text with normalized line breaks; raise a `UnicodeDecodeError` if it is not UTF-8."""
    return read_trusted(path).decode().replace("\r\n", "\n").replace("\r", "\n")


def require_regular(path: Path, facts: os.stat_result | None = None) -> None:
    """Check by its status, or by `facts`, that `path` is a regular file of at most `LARGEST_FILE` bytes.

    Raises:
        UnsafeError: it is not.
        OSError: its status cannot be read.
    """
    facts = facts or path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise UnsafeError(f"file {path}: cannot be read: it is {_kind_of(facts)}", "name a regular file")
    if facts.st_size > LARGEST_FILE:
        what, remedy = f"it has {facts.st_size:,} bytes", f"at most {LARGEST_FILE:,} are read"
        raise UnsafeError(f"file {path}: cannot be read: {what}", remedy)


def _kind_of(facts: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(facts.st_mode), "a device")


def weakness(path: Path) -> Weakness | None:
    """Return the weakness of the first step of `path` that another user could change, None if there is none."""
    return next((found for step, facts in _steps(path) if (found := _weakness(path, step, facts))), None)


def _steps(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield each directory, link and file on the way to `path`, from the root on."""
    here, rest, links = _ROOT, list(reversed(path.absolute().parts[1:])), 0
    yield here, here.lstat()
    while rest:
        part = rest.pop()
        if part == "..":
            here = here.parent
            continue
        step = here / part
        facts = step.lstat()
        yield step, facts
        if not stat.S_ISLNK(facts.st_mode):
            here = step
            continue
        if (links := links + 1) > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = step.readlink()
        here = _ROOT if target.is_absolute() else here
        rest += reversed(target.parts[1:] if target.is_absolute() else target.parts)


def _weakness(path: Path, step: Path, facts: os.stat_result) -> Weakness | None:
    if facts.st_uid not in {0, os.geteuid()}:
        return _foreign(path, step, facts)
    writers = others(facts) & _OTHERS_WRITE
    sticky = stat.S_ISDIR(facts.st_mode) and facts.st_mode & stat.S_ISVTX
    # On a read-only file system, such as a Kubernetes ConfigMap, a mode of 0777 does no harm.
    if stat.S_ISLNK(facts.st_mode) or not writers or sticky or os.statvfs(step).f_flag & os.ST_RDONLY:
        return None
    what = "others can change it"
    if stat.S_ISDIR(facts.st_mode):
        what = f"others can put another in its place, because they can write to {step}"
    return Weakness(f"{what} (mode {stat.S_IMODE(facts.st_mode):04o})", f"chmod go-w {shlex.quote(str(step))}")


def _foreign(path: Path, step: Path, facts: os.stat_result) -> Weakness:
    owner, here = user_name(facts.st_uid), user_name(os.geteuid())
    what = "it" if step == path.absolute() and stat.S_ISREG(facts.st_mode) else str(step)
    trusted = here if os.geteuid() == 0 else f"{here} or root"
    remedy = f"run RLM as {owner}, or, if its content is yours: chown {here}"
    if stat.S_ISLNK(facts.st_mode):
        remedy = "remove the link"
    return Weakness(
        f"{what} belongs to {owner}, not to {trusted}, so {owner} can change what RLM does",
        f"{remedy} {shlex.quote(str(step))}",
    )


def user_name(uid: int) -> str:
    """Return the name of a user, or the number if it has no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def others(facts: os.stat_result) -> int:
    """Return the permissions of users other than the owner; the owner's private group does not count."""
    private = stat.S_IMODE(facts.st_mode) & stat.S_IRWXG and is_private_group(facts.st_uid, facts.st_gid)
    return stat.S_IMODE(facts.st_mode) & (stat.S_IRWXO if private else stat.S_IRWXG | stat.S_IRWXO)


def is_private_group(uid: int, gid: int) -> bool:
    """Return whether a group is a user's own: it has the user's name (or number) and no other member."""
    if any(user.pw_gid == gid and user.pw_uid != uid for user in pwd.getpwall()):
        return False
    try:
        group = grp.getgrgid(gid)
    except KeyError:
        return uid == gid
    name = user_name(uid)
    return group.gr_name == name and set(group.gr_mem) <= {name}


@contextmanager
def opened_directory(directory: Path, *, make: bool = True) -> Iterator[int]:
    """Yield a descriptor of `directory`, closed to other users. If it is missing and `make` is set, make it.

    Raises:
        UnsafeError: it is a link or another user's, or others could write to it and left something in it.
        OSError: it cannot be made or opened.
    """
    if make:
        directory.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            directory.mkdir(mode=DIRECTORY_MODE)
    require_own(directory, directory.lstat())
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | CAREFUL)
    try:
        require_own(directory, os.fstat(descriptor))
        _close_to_others(directory, descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def claim_directory(directory: Path) -> None:
    """Make `directory` if it is missing, and close it to other users, for a program that opens it by path.

    Raises:
        UnsafeError, OSError: as `opened_directory`, or another user could put another directory in its place.
    """
    directory.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    if found := weakness(directory.parent):
        raise UnsafeError(f"{str(directory)!r} is not safe: {found.what}", found.remedy)
    with opened_directory(directory):
        pass


def is_own_directory(directory: Path) -> bool:
    """Return whether `directory` is a directory of this user, and not a link to one."""
    with suppress(OSError, UnsafeError):
        require_own(directory, directory.lstat())
        return True
    return False


def open_own(directory: int, name: str, flags: int) -> int:
    """Open the file `name` in `directory` with `flags`; a new one is this user's alone.

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
    """Return the content of this user's small file in this user's directory; raise as the two functions used here."""
    with (
        opened_directory(path.parent, make=False) as directory,
        os.fdopen(open_own(directory, path.name, os.O_RDONLY), "rb") as opened,
    ):
        return opened.read(LARGEST_FILE)


def replace_own(path: Path, content: bytes) -> None:
    """Replace a whole file, or a link in its place; raise as `opened_directory` and `replace_in` do."""
    with opened_directory(path.parent) as directory:
        replace_in(directory, path.name, content, FILE_MODE)


def overwrite_own(path: Path, content: bytes) -> None:
    """Overwrite an existing file, which needs no free space on most disks; raise as `read_own` does."""
    with (
        opened_directory(path.parent, make=False) as directory,
        os.fdopen(open_own(directory, path.name, os.O_WRONLY), "wb") as opened,
    ):
        opened.write(content)
        opened.truncate()


def replace_in(directory: int, name: str, content: bytes, mode: int, exactly: int | None = None) -> None:
    """Replace the whole file `name` in `directory` by renaming a new file with an unguessable name.

    Its mode is `mode` less the umask, or `exactly` if given. After an OSError the old file is unchanged.
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


def require_own(directory: Path, facts: os.stat_result) -> None:
    """Raise an UnsafeError unless `facts`, the status of `directory`, show a directory of this user."""
    us, owner, path = user_name(os.geteuid()), user_name(facts.st_uid), shlex.quote(str(directory))
    remedy = f"run RLM as {owner}, or, if what is in it is yours: chown -R {us} {path}"
    if not (is_directory := stat.S_ISDIR(facts.st_mode)) or facts.st_uid != os.geteuid():
        what = f"{str(directory)!r} is not a directory of user {us} but {_kind_of(facts)} of {owner}"
        raise UnsafeError(what, remedy if is_directory else f"see what it is, and remove it: rm {path}")


def _close_to_others(directory: Path, descriptor: int) -> None:
    """Close the directory to others. If another user left something in it, restore its mode and raise UnsafeError."""
    facts = os.fstat(descriptor)
    before = stat.S_IMODE(facts.st_mode)
    if before != DIRECTORY_MODE:
        os.fchmod(descriptor, DIRECTORY_MODE)
    was_open = bool(others(facts) & _OTHERS_WRITE)
    with os.scandir(descriptor) as entries:
        foreign = next((one.name for one in entries if _is_foreign(one.stat(follow_symlinks=False), was_open)), None)
    if foreign is not None:
        os.fchmod(descriptor, before)
        path = str(directory / foreign)
        remedy = f"see what it is, and remove it: rm -r {shlex.quote(path)}"
        raise UnsafeError(f"{path!r} may be another user's: RLM did not make it", remedy)


def _is_foreign(facts: os.stat_result, was_open: bool) -> bool:
    """Return whether another user made an entry, or could have: anybody can link our files into an open directory."""
    linked = stat.S_ISLNK(facts.st_mode) or (stat.S_ISREG(facts.st_mode) and facts.st_nlink > 1)
    return facts.st_uid not in {0, os.geteuid()} or (was_open and linked)
