"""Where the embedded server keeps its data and its socket, and that nobody else can reach either."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from rlm.errors import StoreError

SOCKET_NAME = "valkey.sock"
#: A socket's path must fit in 104 bytes (macOS; 108 on Linux), its end included.
SOCKET_PATH_BYTES = 100
#: Where a socket goes whose path would be too long. Not `$TMPDIR`: processes that differ in it would miss each other.
SHORT_PLACE = Path("/tmp")  # noqa: S108 - in a directory that is refused unless it is ours alone


def socket_path(data_dir: Path) -> Path:
    """Name the socket of the server in `data_dir`, which must be absolute."""
    path = data_dir / SOCKET_NAME
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return SHORT_PLACE / f"rlm-{os.geteuid()}-{digest}" / path.name


def is_own_socket(path: Path) -> bool:
    """Tell whether `path` is the socket of an embedded server of this user, running or not."""
    place = path.parent
    short = place.parent == SHORT_PLACE and place.name.startswith(f"rlm-{os.geteuid()}-")
    return path.name == SOCKET_NAME and (short or (place / "server.lock").exists())


def claim_data_dir(directory: Path) -> None:
    """Make `directory` and close it to everybody else.

    Raises:
        StoreError: it is another user's.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _require_own(directory)
    directory.chmod(0o700)


def claim_socket_dir(directory: Path) -> None:
    """Make `directory`, which lies where everybody may write.

    Raises:
        StoreError: somebody else made it, or may enter it.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    _require_own(directory)
    mode = stat.S_IMODE(directory.lstat().st_mode)
    if mode & 0o077:
        raise StoreError(
            f"{str(directory)!r} is open to others (mode {mode:03o}), so a socket is not safe in it: "
            "remove it, or keep the configuration in a directory with a shorter path"
        )


def _require_own(directory: Path) -> None:
    facts = directory.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        raise StoreError(
            f"{str(directory)!r} is not a directory of user {os.geteuid()} but of {facts.st_uid}, "
            "so the embedded server cannot be kept in it: run as its owner, or use another directory"
        )
