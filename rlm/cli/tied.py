"""A command of RLM that stops when the process that started it dies: `python -m rlm.cli.tied PARENT COMMAND ...`.

The demo, the self-test and `rlm start --wait` stop their processes themselves, unless they are killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from rlm.cli.group import rlm

#: Of prctl(2), Linux: send this process a signal when its parent dies.
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent and run the command."""
    _, parent, *command = sys.argv
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == int(parent):  # else the parent died before prctl
        rlm(command, prog_name="rlm")


if __name__ == "__main__":
    main()
