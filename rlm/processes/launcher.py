"""Starts processes as copies of a template that has imported what they need: the forkserver of `multiprocessing`.

A process with threads and connections must not be forked, so the template is one beside it. Python starts it anew when
it has died; its copies live on. When this process dies each copy sees that by the sentinel of
`multiprocessing.parent_process`.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from importlib import import_module
from multiprocessing import forkserver, util
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from rlm.core.files import claim_directory

#: The variable with the directory of the template's socket, which the template removes if this process was killed.
PLACE_VARIABLE = "RLM_TEMPLATE_PLACE"
#: The longest directory for temporary files in which that has its 32 of the 107 bytes that a socket's path may have.
LONGEST_PLACE = 75


def start_template(modules: Sequence[str]) -> None:
    """Start the template. It imports while this process goes on, and leaves out in silence what it cannot import."""
    os.environ["PYTHONSAFEPATH"] = "1"  # otherwise it would import from the current directory first
    if len(os.fsencode(tempfile.gettempdir())) > LONGEST_PLACE:
        tempfile.tempdir = "/tmp"  # noqa: S108  # Python makes a directory of mode 0700 in it
    os.environ[PLACE_VARIABLE] = util.get_temp_dir()
    multiprocessing.set_forkserver_preload(list(modules))
    forkserver.ensure_running()


def spawn(module: str, function: str, *args: object) -> ForkServerProcess:
    """Start a process that runs a function; raise an OSError or EOFError if the host has no room for it.

    It is given by name, because this process needs nothing of what it imports: 3 MB for a worker.
    """
    claim_directory(Path(util.get_temp_dir()))  # a template that ended otherwise than by a signal has removed it
    process = multiprocessing.get_context("forkserver").Process(target=_run, args=(module, function, *args))
    process.start()
    return process


def _run(module: str, function: str, *args: object) -> None:
    getattr(import_module(module), function)(*args)
