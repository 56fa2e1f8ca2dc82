"""Starts processes as copies of a template that has imported what they need: the forkserver of `multiprocessing`.

A process with threads and connections must not be forked, so the template is one beside it. Python starts it anew when
it has died; its copies live on. When this process dies each copy sees that by the sentinel of
`multiprocessing.parent_process`.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess


def start_template(modules: Sequence[str]) -> None:
    """Start the template. It imports while this process goes on, and leaves out in silence what it cannot import."""
    os.environ["PYTHONSAFEPATH"] = "1"  # otherwise it would import from the current directory first
    multiprocessing.set_forkserver_preload(list(modules))
    forkserver.ensure_running()


def spawn(target: Callable[..., None], *args: object) -> ForkServerProcess:
    """Start a process that runs `target`; raise an OSError or EOFError if the host has no room for it."""
    process = multiprocessing.get_context("forkserver").Process(target=target, args=args, daemon=False)
    process.start()
    return process
