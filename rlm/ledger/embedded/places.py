"""Where the embedded server keeps its data and its socket, and that nobody else can reach either."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

from rlm.core.errors import UnsafeError
from rlm.core.files import claim_directory, is_own_directory

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


def claim_socket_dir(directory: Path) -> None:
    """Make `directory`, which lies where everybody may write.

    Raises:
        UnsafeError: somebody else made it, or may enter it, or could put another in its place.
    """
    with suppress(FileNotFoundError):
        mode = stat.S_IMODE(directory.lstat().st_mode)
        if is_own_directory(directory) and mode & 0o077:
            raise UnsafeError(
                f"{str(directory)!r} is open to others (mode {mode:03o}), so a socket is not safe in it",
                "remove it, or keep the configuration in a directory with a shorter path",
            )
    claim_directory(directory)
