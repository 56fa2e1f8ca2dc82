"""Files of this host: the configuration, `.env`, the data directory, the archive, and who may read or change them."""

from __future__ import annotations

import os
import shlex
import stat
from os import W_OK, access
from pathlib import Path
from typing import TYPE_CHECKING

from rlm.admin.doctor.findings import fault, good, warning
from rlm.core.errors import RLMError
from rlm.core.files import Weakness, others, user_name, weakness
from rlm.core.text import counted
from rlm.ledger.archive import Archive
from rlm.settings.document import leaves
from rlm.settings.secrets import EMBEDDED, MASK, is_secret, mask_value
from rlm.settings.sources import read_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.core.errors import ConfigurationError
    from rlm.ledger import Store
    from rlm.ledger.fitness import Finding
    from rlm.settings import Settings

_OTHERS_READ = stat.S_IRGRP | stat.S_IROTH
#: What one run may add beyond the bounds; the archivist moves it within seconds of the run's end.
ARCHIVED_SOON = {"run record": 1, "dead letter": 1000}
_ALLOW_MEMORY_USAGE = "allow the user of redis.url to ask (ACL SETUSER name +memory|usage)"
_MAKE_WRITABLE = "make room on its disk, see who owns the directory, or name another in archive.directory"
_ARCHIVED_LATER = f"a scheduler archives them after each run; if they stay, its log says why: {_MAKE_WRITABLE}"


def check_configuration(settings: Settings) -> Iterator[Finding]:
    """Report the source and the size of the configuration."""
    source = f"file {settings.source}" if settings.source else "the built-in defaults, whose endpoints are examples"
    types, endpoints = len(settings.event_types), len(settings.endpoints)
    yield good("configuration", f"{source}; {types} types, {endpoints} endpoints, revision {settings.revision}")


def unusable(error: ConfigurationError) -> Iterator[Finding]:
    """Report each fault of a configuration that cannot be used."""
    remedy = "correct it: no process of RLM starts with it; those that run go on with what they have read"
    for line in str(error).splitlines():
        yield fault("configuration", line, remedy)


def check_files(settings: Settings) -> Iterator[Finding]:
    """Check who may read and change the files of `settings`, as far as they exist."""
    found = [*check_file(settings.source)] if settings.source else []
    found += [*_procfile(settings), *_dotenv(settings), *_folder(settings)]
    for directory, what in ((settings.data_dir, "holds the data of the ledger"), (settings.archive_dir, "holds items")):
        found += _private(directory, what)
    yield from found or [good("files", "nobody else can change the configuration or read what is secret")]


def check_file(path: Path) -> Iterator[Finding]:
    """Check who may read and change the configuration at `path`, whether or not it can be used."""
    try:
        holds = "holds" if _holds_secret(path) else ""
    except RLMError:  # it cannot be read: nobody knows
        holds = "may hold"
    what = f"is the configuration, and {holds} a secret" if holds else "is the configuration"
    yield from _closed(path, what, secret=bool(holds))


def _holds_secret(path: Path) -> bool:
    """Return whether the file holds a value that is masked when shown, except harmless headers.

    Raises:
        RLMError: it cannot be read.
    """
    masked = [place for place, value in leaves(read_file(path).file) if place and MASK in str(mask_value(place, value))]
    return any("headers" not in place or is_secret(str(place[-1])) for place in masked)


def _folder(settings: Settings) -> Iterator[Finding]:
    """Check who could replace the data directory of the embedded server."""
    if settings.redis.url != EMBEDDED:
        return
    try:
        found = weakness(settings.data_dir.parent)
    except OSError:  # the server reports it
        return
    if found:
        message = f"{settings.data_dir} holds the data of the ledger, and is refused: {found.what}"
        yield fault("files", message, found.remedy)


def _procfile(settings: Settings) -> Iterator[Finding]:
    root = settings.source.parent if settings.source else Path.cwd()
    yield from _closed(root / "Procfile", "has the commands of `rlm up`", secret=False)


def _dotenv(settings: Settings) -> Iterator[Finding]:
    """Check the `.env` here, which `rlm up` reads, and the one beside the data directory."""
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
    """Return the permissions of a file or directory, and those of others; 0 if it is missing or cannot be examined."""
    try:
        facts = path.stat()
    except OSError:
        return 0, 0
    return stat.S_IMODE(facts.st_mode), others(facts)


def check_archive(store: Store) -> Iterator[Finding]:
    """Check the size and access of the archive on this host, and whether Redis still holds what belongs in it."""
    yield _archive(store)
    yield from _check_bytes(store)


def _check_bytes(store: Store) -> Iterator[Finding]:
    held, most = store.letters.held_bytes(), store.settings.queue.failed_max_bytes
    if held is None:
        yield warning(
            "archive", "queue.failed_max_bytes is not kept to: MEMORY USAGE is forbidden", _ALLOW_MEMORY_USAGE
        )
    elif held > most and not store.runs.current():
        megabytes = f"{held / 1e6:,.1f} MB of Redis, more than {most / 1e6:,.1f}"
        yield warning("archive", f"dead letters take {megabytes} (queue.failed_max_bytes)", _ARCHIVED_LATER)


def _archive(store: Store) -> Finding:
    archive, settings = Archive(store.settings.archive_dir), store.settings
    kept = {
        "run record": store.runs.count() - settings.run.history,
        "dead letter": store.letters.count() - settings.queue.failed_max,
    }
    surplus = {what: number for what, number in kept.items() if number > 0}
    waiting = ", ".join(counted(number, what) for what, number in surplus.items())
    told = f"; {waiting} more than Redis is to keep wait there to be archived" if waiting else ""
    soon = ARCHIVED_SOON if store.runs.current() else dict.fromkeys(ARCHIVED_SOON, 0)
    try:
        files = archive.files()
        size = sum(path.stat().st_size for path in files)
    except OSError as error:
        return warning("archive", f"{archive.directory} cannot be read: {error.strerror}{told}", _MAKE_WRITABLE)
    if archive.directory.exists() and not (archive.directory.is_dir() and access(archive.directory, W_OK)):
        return warning("archive", f"{archive.directory} cannot be written to{told}", _MAKE_WRITABLE)
    if any(number > soon[what] for what, number in surplus.items()):
        return warning("archive", told.removeprefix("; "), _ARCHIVED_LATER)
    if not files:
        return good("archive", f"empty on this host; what Redis is not to keep goes to {archive.directory}{told}")
    return good("archive", f"{len(files)} files of {size / 1e6:,.1f} MB in {archive.directory}{told}")
