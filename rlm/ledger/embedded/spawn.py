"""Starts a program that shall live on its own: no session, signals, environment or open files of ours."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What Python or its parents may have set to "ignore", which a new program would inherit.
RESTORED_SIGNALS = (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM)
#: The last descriptor of the standard three.
STANDARD_ERROR = 2


def spawn(command: list[str], stdin: int, output: int) -> int:
    """Start `command` in a session of its own, with `stdin` and `output` as its standard files; return its process id.

    In contrast to `subprocess.Popen` it starts with no signal blocked or ignored, and nothing complains that it
    outlives whoever started it.
    """
    files = [
        (os.POSIX_SPAWN_DUP2, stdin, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output, 2),
        *((os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in _inheritable_descriptors()),
    ]
    return os.posix_spawn(
        command[0], command, {}, file_actions=files, setsid=True, setsigmask=(), setsigdef=RESTORED_SIGNALS
    )


def _inheritable_descriptors() -> Iterator[int]:
    """Name what the program would keep open, a pipe for instance whose end somebody waits for."""
    for descriptor in (int(entry.name) for entry in Path("/dev/fd").iterdir()):
        with suppress(OSError):  # the one that listed them
            if descriptor > STANDARD_ERROR and os.get_inheritable(descriptor):
                yield descriptor
