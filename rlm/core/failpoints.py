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
from pathlib import Path
from typing import Final

from rlm.core.errors import ConfigurationError

#: The variable that names the crash point. It cannot be mistaken for a setting, whose variable has `__` in its name.
VARIABLE: Final = "RLM_CRASH_AT"


#: All crash points, in the order in which a run, an event and a worker's death reach them. Each text says what has and
#: what has not happened by then.
POINTS: Final = {
    # The life of a run: the scheduler.
    "tick.due": "a tick is due; nothing is written of it",
    "request.seen": "somebody asked for a run; none is open",
    "run.opened": "the run is open; its tick is not noted, nobody is answered",
    "tick.noted": "the tick is noted, and its run, if there is anything to do, is open",
    "drain.staged": "the audit list is staged; nothing of it is in the ledger",
    "drain.chunk_taken": "a chunk is in the ledger; the rest is staged",
    "drain.done": "what is taken before the plan is in the ledger; the run is still draining",
    "plan.limits_published": "the limits are published; there is no plan",
    "plan.written": "the plan is written, the run is running; no worker is wanted",
    "plan.workers_wanted": "workers are wanted; nobody looks at the run",
    "finish.due": "nothing more can be sent; the run is still running",
    "finish.marked": "the run is finishing; nothing is owned any more",
    "close.returned": "what was not settled is pending; there is no record",
    "close.counted": "the record is made; it is not written",
    "close.recorded": "the record is written; nobody is woken",
    "run.conducted": "the run is closed and recorded; its conductor has not moved on",
    # The life of an event: a worker.
    "worker.started": "the worker has begun; it is not ready",
    "worker.fetched": "a lane begins; no event is claimed",
    "worker.claimed": "the event is claimed; nothing is done with it",
    "worker.connected": "the connection is open; the slot that came with the claim is not used",
    "worker.slot_taken": "the slot is taken; nothing is sent",
    "worker.sent": "the request is sent; there is no answer",
    "worker.answered": "the answer is read; nothing is written of it",
    "worker.settled": "the event is settled or given back; its lane has not gone on",
    "worker.closing": "the end-of-run actor has its message; the run is not closed by it",
    "worker.closed": "the run is closed, if by this actor; nobody has reported it",
    "worker.leaving": "the worker is told to leave; it has put nothing back",
    # The life of a worker: its supervisor.
    "supervisor.spawned": "a worker is spawned; it is not in the register",
    "supervisor.noticed": "a worker's death is noticed; nothing it held is free",
    "supervisor.orphaned": "all it held is pending; it is still in the register",
    "supervisor.freed": "it is out of the register; no other is spawned for it",
}

_at = os.environ.get(VARIABLE, "")
_lock = threading.Lock()
_passed: dict[str, int] = {}


def crash_point(name: str) -> None:
    """Kill this process if the environment names this point; raise a ConfigurationError if it names an unknown one."""
    if _at:
        _come_by(name)


def _come_by(name: str) -> None:
    file = Path(_at[1:]) if _at.startswith("@") else None
    try:
        told = file.read_text(encoding="utf-8").strip() if file else _at
    except FileNotFoundError:
        return
    point, number = _read(told)
    if point != name:
        return
    with _lock:
        _passed[told] = _passed.get(told, 0) + 1
        if _passed[told] >= number and _is_ours(file):
            os.kill(os.getpid(), signal.SIGKILL)


def _read(told: str) -> tuple[str, int]:
    point, _, number = told.partition(":")
    if point not in POINTS or not (number or "1").isdecimal():
        known = ", ".join(POINTS)
        raise ConfigurationError(f"{VARIABLE}: {told!r} is no crash point; write NAME or NAME:NUMBER, of {known}")
    return point, int(number or "1")


def _is_ours(file: Path | None) -> bool:
    """Return whether this process must die: of the processes that share a file, the one that removes it."""
    if file is None:
        return True
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    return True
