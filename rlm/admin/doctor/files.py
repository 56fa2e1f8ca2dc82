"""Files on this host that others could read or change: the configuration, `.env`, the data directory, the archive."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from rlm.admin.doctor.findings import fault, good, warning
from rlm.core.errors import RLMError
from rlm.core.files import Weakness, others, user_name, weakness
from rlm.settings.document import leaves
from rlm.settings.secrets import EMBEDDED, MASK, is_secret, mask_value
from rlm.settings.sources import read_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.ledger.fitness import Finding
    from rlm.settings import Settings

_OTHERS_READ = stat.S_IRGRP | stat.S_IROTH


def check_files(settings: Settings) -> Iterator[Finding]:
    """Look who may read and change the files of `settings`; what does not exist is nobody's to read."""
    found = [*check_file(settings.source)] if settings.source else []
    found += [*_procfile(settings), *_dotenv(settings), *_folder(settings)]
    for directory, what in ((settings.data_dir, "holds the data of the ledger"), (settings.archive_dir, "holds items")):
        found += _private(directory, what)
    yield from found or [good("files", "nobody else can change the configuration or read what is secret")]


def check_file(path: Path) -> Iterator[Finding]:
    """Look who may read and change the configuration at `path`, whether or not it can be used."""
    try:
        holds = "holds" if _holds_secret(path) else ""
    except RLMError:  # it cannot be read: nobody knows
        holds = "may hold"
    what = f"is the configuration, and {holds} a secret" if holds else "is the configuration"
    yield from _closed(path, what, secret=bool(holds))


def _holds_secret(path: Path) -> bool:
    """Return whether something stands in the file that is masked where it is shown, but for harmless headers.

    Raises:
        RLMError: it cannot be read.
    """
    masked = [place for place, value in leaves(read_file(path)) if place and MASK in str(mask_value(place, value))]
    return any("headers" not in place or is_secret(str(place[-1])) for place in masked)


def _folder(settings: Settings) -> Iterator[Finding]:
    """Look who could put another data directory in the place of the embedded server's."""
    if settings.redis.url != EMBEDDED:
        return
    try:
        found = weakness(settings.data_dir.parent)
    except OSError:  # the server tells of it
        return
    if found:
        message = f"{settings.data_dir} holds the data of the ledger, and is refused: {found.what}"
        yield fault("files", message, found.remedy)


def _procfile(settings: Settings) -> Iterator[Finding]:
    root = settings.source.parent if settings.source else Path.cwd()
    yield from _closed(root / "Procfile", "has the commands of `rlm up`", secret=False)


def _dotenv(settings: Settings) -> Iterator[Finding]:
    """Look at the `.env` here, which `rlm up` reads, and at the one beside the data directory."""
    for directory in dict.fromkeys((Path.cwd(), settings.data_dir.parent)):
        yield from _closed(directory / ".env", "is where secrets stand", secret=True)


def _closed(path: Path, what: str, *, secret: bool) -> Iterator[Finding]:
    if not os.path.lexists(path):
        return
    try:
        found = weakness(path)
    except OSError as error:
        found = Weakness(f"it cannot be looked at ({error.strerror})", "make that possible, or remove it")
    if found:
        yield fault("files", f"{path} {what}, so it is refused: {found.what}", found.remedy)
    mode, may = _modes(path)
    if secret and may & _OTHERS_READ:
        yield warning("files", f"{path} {what}: others can read it (mode {mode:03o})", _chmod(600, path))


def _private(directory: Path, what: str) -> Iterator[Finding]:
    if foreign := _foreign(directory):
        remedy = "run RLM and its commands as its owner, or see what it is and remove it"
        yield fault("files", f"{directory} {what}, and {foreign}, so nothing is written there", remedy)
        return
    mode, may = _modes(directory)
    if may:
        yield warning("files", f"{directory} {what}, and others can enter it (mode {mode:03o})", _chmod(700, directory))
    if mode and not os.access(directory, os.W_OK | os.X_OK):
        message = f"{directory} {what}, and this user ({os.geteuid()}) cannot write there"
        yield warning("files", message, "run RLM and its commands as its owner, or give it to the user they run as")


def _foreign(directory: Path) -> str:
    try:
        facts = directory.lstat()
    except OSError:
        return ""
    if stat.S_ISLNK(facts.st_mode):
        return f"is a link, made by {user_name(facts.st_uid)}"
    return "" if facts.st_uid == os.geteuid() else f"belongs to {user_name(facts.st_uid)}"


def _chmod(mode: int, path: Path) -> str:
    return f"chmod {mode} {shlex.quote(str(path))}"


def _modes(path: Path) -> tuple[int, int]:
    """Return the permissions of a file or directory, and those of others; 0 where there is none, or none to be seen."""
    try:
        facts = path.stat()
    except OSError:
        return 0, 0
    return stat.S_IMODE(facts.st_mode), others(facts)
