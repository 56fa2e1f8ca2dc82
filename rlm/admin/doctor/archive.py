"""The archive on this host: how large it is, whether it can be written, and what still waits to be put there."""

from __future__ import annotations

from os import W_OK, access
from typing import TYPE_CHECKING

from rlm.admin.doctor.findings import good, warning
from rlm.core.text import counted
from rlm.ledger.archive import Archive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.ledger import Store
    from rlm.ledger.fitness import Finding

#: So many beyond their bound one run may add, which the archivist moves within seconds of its end.
ARCHIVED_SOON = {"run record": 1, "dead letter": 1000}

_ACL = "allow the user of redis.url to ask (ACL SETUSER name +memory|usage)"
_REMEDY = "make room on its disk, see who owns the directory, or name another in archive.directory"
_SOON = f"a scheduler archives them after each run; if they stay, its log says why: {_REMEDY}"


def check_archive(store: Store) -> Iterator[Finding]:
    """Tell what the archive on this host takes, and whether what should be in it still waits in Redis."""
    yield _archive(store)
    yield from _check_bytes(store)


def _check_bytes(store: Store) -> Iterator[Finding]:
    held, most = store.letters.held_bytes(), store.settings.queue.failed_max_bytes
    if held is None:
        yield warning("archive", "queue.failed_max_bytes is not kept to: MEMORY USAGE is forbidden", _ACL)
    elif held > most and not store.runs.current():
        megabytes = f"{held / 1e6:,.1f} MB of Redis, more than {most / 1e6:,.1f}"
        yield warning("archive", f"dead letters take {megabytes} (queue.failed_max_bytes)", _SOON)


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
        return warning("archive", f"{archive.directory} cannot be read: {error.strerror}{told}", _REMEDY)
    if archive.directory.exists() and not (archive.directory.is_dir() and access(archive.directory, W_OK)):
        return warning("archive", f"{archive.directory} cannot be written to{told}", _REMEDY)
    if any(number > soon[what] for what, number in surplus.items()):
        return warning("archive", told.removeprefix("; "), _SOON)
    if not files:
        return good("archive", f"empty on this host; what Redis is not to keep goes to {archive.directory}{told}")
    return good("archive", f"{len(files)} files of {size / 1e6:,.1f} MB in {archive.directory}{told}")
