"""How `rlm start` and `rlm cancel` work: ask the scheduler, and show the progress of a run that it conducts.

A run that waits for this command waits for what it imports: the rest is imported once the scheduler is asked.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rlm.admin.start_run import ANSWER_SECONDS, POLL_SECONDS
from rlm.cli.common import CommandError, ExitCode
from rlm.cli.options import FOLLOW_SECONDS
from rlm.cli.printing import is_terminal, say
from rlm.core.clock import system_clock
from rlm.core.documents import Record, RunStatus

if TYPE_CHECKING:
    from rlm.core.run import Run
    from rlm.ledger.store import Store
    from rlm.processes.signals import StopSignals

#: How often `rlm start --wait` prints changes without a terminal, seconds.
TOLD_SECONDS = 10.0


def check_uninterrupted(stop: StopSignals) -> None:
    """End the command if a signal came before a run was started."""
    if stop.graceful:
        raise CommandError("Interrupted before a run was started.", ExitCode.INTERRUPTED)


def wait_for(store: Store, run_id: str, stop: StopSignals, interval: float | None) -> Record:
    """Show the progress of a run that another process conducts; return its record. Redis may go away meanwhile."""
    from rlm.admin import report
    from rlm.cli.status import detached, look_once
    from rlm.terminal.live import Drawn, Lines
    from rlm.terminal.record import changes, line_of, picture_of

    drawn = is_terminal(err=True)
    pause = interval or (FOLLOW_SECONDS if drawn else TOLD_SECONDS)
    shown_at = float("-inf")
    output = Drawn(sys.stderr, picture_of, transient=True) if drawn else Lines(say, line_of, changes)
    with output:
        while True:
            looked_up = look_once(lambda: (store.runs.record(run_id),), output)
            if looked_up and (record := looked_up[0]):
                return record
            if stop.graceful:
                raise CommandError(detached(run_id), ExitCode.INTERRUPTED)
            if looked_up and system_clock.monotonic() - shown_at >= pause:
                shown_at = system_clock.monotonic()
                found = look_once(lambda: report.status(store, run_id, measured=False), output)
                if isinstance(found, RunStatus):
                    output.show(found)
            system_clock.sleep(POLL_SECONDS)


def await_close(store: Store, run: Run, stop: StopSignals) -> Record:
    """Wait until a run is closed and return its record; close it here if no conductor answers."""
    until = system_clock.monotonic() + ANSWER_SECONDS
    while (record := store.runs.record(run.id)) is None:
        if stop.graceful:
            raise CommandError(f"Run {run.id} is being cancelled; see `rlm status`.", ExitCode.INTERRUPTED)
        if system_clock.monotonic() > until and store.leases.holder() is None:
            from scheduler.byhand import HandConductor

            conductor = HandConductor(store, stop, allow_volatile=True)  # whatever opened it may close
            try:
                conductor.campaign(ANSWER_SECONDS)
                conductor.close_open(run.id)
            finally:
                conductor.resign()
        system_clock.sleep(POLL_SECONDS)
    return record
