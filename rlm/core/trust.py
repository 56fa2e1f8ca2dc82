"""Who else could change a file or put another in its place: every step of its path is looked at, as ssh does it.

A step is trusted if it belongs to this user or to root and no other user may write there. In a directory with the
sticky bit others may add entries, but not replace those of this user and root; on a file system that is mounted
read-only nobody may. A group may write if it is the private
group of the owner, which many systems make for each user (with a umask of 002): nobody else is in it.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlm.core.errors import UnsafeError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: No file of RLM's configuration is larger, bytes.
LARGEST_FILE = 1_000_000
_MOST_LINKS = 40
_ROOT = Path("/")
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


@dataclass(frozen=True, slots=True)
class Weakness:
    """Why a file is not to be trusted, and the command that mends it."""

    what: str
    remedy: str


def read_trusted(path: Path) -> bytes:
    """Return the content of a regular file of at most `LARGEST_FILE` bytes that nobody else can change.

    Raises:
        UnsafeError: somebody else can change it, or it is no such file.
        OSError: it cannot be read.
    """
    require_regular(path)  # before it is opened: opening a device may do something, opening a pipe waits
    found = weakness(path)
    if found:
        raise UnsafeError(f"file {path}: {found.what}", found.remedy)
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(file, "rb") as opened:
        _require_regular(path, os.fstat(file))
        return opened.read(LARGEST_FILE)


def read_trusted_text(path: Path) -> str:
    """Return the same as text, whatever system its line breaks are of.

    Raises:
        UnsafeError, OSError: as `read_trusted`.
        UnicodeDecodeError: it is not UTF-8.
    """
    return read_trusted(path).decode().replace("\r\n", "\n").replace("\r", "\n")


def require_regular(path: Path) -> None:
    """Check that `path` is a regular file of at most `LARGEST_FILE` bytes; nothing is opened.

    Raises:
        UnsafeError: it is none.
        OSError: it cannot be looked at.
    """
    _require_regular(path, path.stat())


def _require_regular(path: Path, facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode):
        kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "something else")
        raise UnsafeError(f"file {path}: cannot be read: it is {kind}", "name a regular file")
    if facts.st_size > LARGEST_FILE:
        size = f"it has {facts.st_size:,} bytes"
        raise UnsafeError(f"file {path}: cannot be read: {size}", f"at most {LARGEST_FILE:,} are read")


def weakness(path: Path) -> Weakness | None:
    """Return the first step of `path` at which another user could change what it leads to; None if there is none.

    Raises:
        OSError: a step cannot be looked at.
    """
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
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = step.readlink()
        here = _ROOT if target.is_absolute() else here
        rest += reversed(target.parts[1:] if target.is_absolute() else target.parts)


def _weakness(path: Path, step: Path, facts: os.stat_result) -> Weakness | None:
    if facts.st_uid not in {0, os.geteuid()}:
        return _foreign(path, step, facts)
    writers = others(facts) & (stat.S_IWGRP | stat.S_IWOTH)
    sticky = stat.S_ISDIR(facts.st_mode) and facts.st_mode & stat.S_ISVTX
    if stat.S_ISLNK(facts.st_mode) or not writers or sticky or _is_read_only(step):
        return None
    mode = f"mode {stat.S_IMODE(facts.st_mode):04o}"
    remedy = f"chmod go-w {shlex.quote(str(step))}"
    if stat.S_ISDIR(facts.st_mode):
        return Weakness(f"others can put another in its place, because they can write to {step} ({mode})", remedy)
    return Weakness(f"others can change it ({mode})", remedy)


def _is_read_only(step: Path) -> bool:
    """Return whether nobody can write there whatever the mode: so are ConfigMaps of Kubernetes, of mode 0777."""
    return bool(os.statvfs(step).f_flag & os.ST_RDONLY)


def _foreign(path: Path, step: Path, facts: os.stat_result) -> Weakness:
    owner, here = user_name(facts.st_uid), user_name(os.geteuid())
    what = "it" if step == path.absolute() and stat.S_ISREG(facts.st_mode) else str(step)
    trusted = here if os.geteuid() == 0 else f"{here} or root"
    remedy = f"run RLM as {owner}, or, if its content is yours: chown {here} {shlex.quote(str(step))}"
    if stat.S_ISLNK(facts.st_mode):
        remedy = f"remove the link {shlex.quote(str(step))}"
    return Weakness(f"{what} belongs to {owner}, not to {trusted}, so {owner} can change what RLM does", remedy)


def user_name(uid: int) -> str:
    """Return the name of a user, its number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def others(facts: os.stat_result) -> int:
    """Return the permissions that other users than the owner have; those of the owner's private group are none."""
    private = stat.S_IMODE(facts.st_mode) & stat.S_IRWXG and is_private_group(facts.st_uid, facts.st_gid)
    return stat.S_IMODE(facts.st_mode) & (stat.S_IRWXO if private else stat.S_IRWXG | stat.S_IRWXO)


def is_private_group(uid: int, gid: int) -> bool:
    """Return whether a group is a user's own: it has the user's name, or number if it has none, and no other member."""
    if any(user.pw_gid == gid and user.pw_uid != uid for user in pwd.getpwall()):
        return False
    try:
        group = grp.getgrgid(gid)
    except KeyError:
        return uid == gid
    name = user_name(uid)
    return group.gr_name == name and set(group.gr_mem) <= {name}
