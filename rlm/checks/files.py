"""Files on this host that others could read or change: the configuration, `.env`, the data directory, the archive."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from rlm.checks.findings import good, warning
from rlm.settings.masking import MASK, is_secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.settings import Settings
    from rlm.store.fitness import Finding

_OTHERS_READ = stat.S_IRGRP | stat.S_IROTH
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def check_files(settings: Settings) -> Iterator[Finding]:
    """Look who may read and change the files of `settings`; what does not exist is nobody's to read."""
    found = [*_configuration(settings), *_dotenv(settings)]
    for directory, what in ((settings.data_dir, "holds the data of the ledger"), (settings.archive_dir, "holds items")):
        found += _private(directory, what)
    yield from found or [good("files", "nobody else can change the configuration or read what is secret")]


def check_file(path: Path) -> Iterator[Finding]:
    """Look who may read and change the configuration at `path`, which cannot be used: it may hold a secret."""
    yield from _closed(path, "is the configuration, and may hold a secret", secret=True)


def _configuration(settings: Settings) -> Iterator[Finding]:
    if settings.source is None:
        return
    secret = _holds_secret(settings)
    what = "is the configuration, and holds a secret" if secret else "is the configuration"
    yield from _closed(settings.source, what, secret=secret)


def _holds_secret(settings: Settings) -> bool:
    """Tell whether something stands in the file itself that is masked where it is shown, but for harmless headers."""
    in_file = [one for one in settings.shown if one.where.startswith("file") and MASK in str(one.value)]
    return any(".headers." not in one.key or is_secret(one.key.rpartition(".headers.")[2]) for one in in_file)


def _dotenv(settings: Settings) -> Iterator[Finding]:
    """Look at the `.env` here, which `rlm up` reads, and at the one beside the data directory."""
    for directory in dict.fromkeys((Path.cwd(), settings.data_dir.parent)):
        yield from _closed(directory / ".env", "is where secrets stand", secret=True)


def _closed(path: Path, what: str, *, secret: bool) -> Iterator[Finding]:
    mode, others = _modes(path)
    if others & _OTHERS_WRITE:
        message = f"{path} {what}: others can change where calls go (mode {mode:03o})"
        yield warning("files", message, f"chmod go-w {shlex.quote(str(path))}")
    if secret and others & _OTHERS_READ:
        yield warning("files", f"{path} {what}: others can read it (mode {mode:03o})", _chmod(600, path))


def _private(directory: Path, what: str) -> Iterator[Finding]:
    mode, others = _modes(directory)
    if others:
        yield warning("files", f"{directory} {what}, and others can enter it (mode {mode:03o})", _chmod(700, directory))
    if mode and not os.access(directory, os.W_OK | os.X_OK):
        message = f"{directory} {what}, and this user ({os.geteuid()}) cannot write there"
        yield warning("files", message, "run RLM and its commands as its owner, or give it to the user they run as")


def _chmod(mode: int, path: Path) -> str:
    return f"chmod {mode} {shlex.quote(str(path))}"


def _modes(path: Path) -> tuple[int, int]:
    """Return the permissions of a file or directory, and those of others; 0 where there is none, or none to be seen.

    What a group may counts only where that is not its owner's own, as many systems make one for each user.
    """
    try:
        facts = path.stat()
    except OSError:
        return 0, 0
    mode = stat.S_IMODE(facts.st_mode)
    own = _is_of_one(facts.st_uid, facts.st_gid)
    return mode, mode & (stat.S_IRWXO if own else stat.S_IRWXG | stat.S_IRWXO)


def _is_of_one(uid: int, gid: int) -> bool:
    """Tell whether a group is a user's own: named as the user, and nobody else is put into it."""
    try:
        owner, group = pwd.getpwuid(uid).pw_name, grp.getgrgid(gid)
    except KeyError:
        return False
    return group.gr_name == owner and set(group.gr_mem) <= {owner}
