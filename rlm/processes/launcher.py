"""Starts processes as copies of a template that has imported what they need: the forkserver of `multiprocessing`.

A process with threads and connections must not be forked, so the template is one beside it. Python starts it anew when
it has died; its copies live on. When this process dies each copy sees that by the sentinel of
`multiprocessing.parent_process`.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess

#: The template listens on a Unix socket in the directory for temporary files. Its name takes 32 of the 107 bytes that a
#: socket's path may have, so in place of a longer directory it is this one.
LONGEST_PLACE, SHORT_PLACE = 75, "/tmp"  # noqa: S108  # Python makes a directory of mode 0700 in it


def start_template(modules: Sequence[str]) -> None:
    """Start the template. It imports while this process goes on, and leaves out in silence what it cannot import."""
    os.environ["PYTHONSAFEPATH"] = "1"  # otherwise it would import from the current directory first
    multiprocessing.set_forkserver_preload(list(modules))
    if len(os.fsencode(tempfile.gettempdir())) > LONGEST_PLACE:
        tempfile.tempdir = SHORT_PLACE
    forkserver.ensure_running()


def spawn(target: Callable[..., None], *args: object) -> ForkServerProcess:
    """Start a process that runs `target`; raise an OSError or EOFError if the host has no room for it."""
    process = multiprocessing.get_context("forkserver").Process(target=target, args=args, daemon=False)
    process.start()
    return process
