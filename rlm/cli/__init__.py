"""The `rlm` command. It imports little, because every worker imports it; a command is loaded when it is used."""

from __future__ import annotations

import gc
import io
import os
import sys


def main() -> None:
    """Run the command line. Ctrl-C ends it quietly, even before a command is loaded."""
    gc.set_threshold(100_000)  # what is imported stays, and scanning it again and again is slow
    try:
        from rlm.cli.group import rlm

        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            if getattr(sys, name) is None:  # it was closed; in this order each gets its own number
                setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # whatever the terminal's encoding lacks
        rlm()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
