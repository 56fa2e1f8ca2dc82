"""Crash points: named lines of RLM's code at which a test kills a process, to prove that nothing is lost there.

They are for tests, not a setting. With `RLM_CRASH_AT=worker.claimed` in its environment, a process kills itself
(SIGKILL) at that line; with `RLM_CRASH_AT=worker.claimed:3`, the third time it gets there. With
`RLM_CRASH_AT=@/tmp/crash`, the processes of a running system read the point from that file once it exists. The first
process at the point removes the file, so only one dies. Without the variable a crash point does nothing.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

_at = os.environ.get("RLM_CRASH_AT", "")
_lock = threading.Lock()
_passed = Counter[str]()


def crash_point(name: str) -> None:
    """Kill this process if the environment names this point."""
    if not _at:
        return
    file = Path(_at.removeprefix("@"))
    with suppress(FileNotFoundError), _lock:  # not ordered yet, or another process dies
        order = file.read_text(encoding="utf-8").strip() if _at.startswith("@") else _at
        point, _, number = order.partition(":")
        _passed[order] += point == name
        if point == name and _passed[order] >= int(number or "1"):
            if _at.startswith("@"):
                file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
