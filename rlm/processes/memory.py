"""What a process that has imported all it needs does once about its memory, before it forks or begins its work."""

from __future__ import annotations

import ctypes
import gc
import sys


def settle_memory() -> None:
    """Give back what only the imports needed, and have the garbage collector leave the rest alone.

    Modules without bytecode are compiled, which leaves 10 MB that malloc keeps. A collection looks at each object that
    is there, and a fork would get a copy of its own of every page of them.
    """
    gc.collect()
    gc.freeze()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # musl has none
        libc.malloc_trim(0)
