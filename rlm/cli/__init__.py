"""The `rlm` command. It imports little, because every worker imports it; a command is loaded when it is used."""

from __future__ import annotations

import gc
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def main() -> None:
    """Run the command line. Ctrl-C ends it quietly, even before a command is loaded."""
    try:
        with uncollected():
            from rlm.cli.group import rlm

        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # whatever the terminal's encoding lacks
        rlm()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector away from imported objects, now and later: they all stay, and scanning is slow."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
