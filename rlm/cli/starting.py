"""How `rlm start` and `rlm cancel` wait for a run that the scheduler conducts.

A run that waits for this command waits for what it imports: the rest is imported once the scheduler is asked.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rlm.admin.start_run import ANSWER_SECONDS, POLL_SECONDS
from rlm.cli.common import CommandError, ExitCode
from rlm.core.clock import system_clock
from rlm.core.documents import Record, RunStatus
from rlm.core.errors import StoreError

if TYPE_CHECKING:
    from rlm.core.run import Run
    from rlm.ledger.store import Store
    from rlm.processes.signals import StopSignals


def check_uninterrupted(stop: StopSignals) -> None:
    """End the command if a signal came before a run was started."""
    if stop.graceful:
        raise CommandError("Interrupted before a run was started.", ExitCode.INTERRUPTED)


def wait_for(store: Store, run_id: str, stop: StopSignals) -> Record:
    """Show the progress of a run that another process conducts; return its record. Redis may go away meanwhile."""
    from rlm.admin import report
    from rlm.admin.words import line
    from rlm.cli.status import detached
    from rlm.terminal.live import View
    from rlm.terminal.runs import picture_of

    shown_at = float("-inf")
    with View(sys.stderr, picture_of, line, transient=True) as view:
        while not stop.graceful:
            try:
                if record := store.runs.record(run_id):
                    return record
                if system_clock.monotonic() - shown_at >= (1.0 if view.is_drawn else 10.0):
                    shown_at = system_clock.monotonic()
                    now = report.status(store, run_id, measured=False)
                    if isinstance(now, RunStatus):
                        view.show(now)
            except StoreError as error:
                view.trouble(str(error))
            stop.wakeup.wait(POLL_SECONDS)
    raise CommandError(detached(run_id), ExitCode.INTERRUPTED)


def await_close(store: Store, run: Run, stop: StopSignals) -> Record:
    """Wait until a run is closed and return its record; close it here if no conductor answers."""
    until = system_clock.monotonic() + ANSWER_SECONDS
    while (record := store.runs.record(run.id)) is None:
        if stop.graceful:
            raise CommandError(f"Run {run.id} is being cancelled; see `rlm status`.", ExitCode.INTERRUPTED)
        if system_clock.monotonic() > until and store.leases.holder() is None:
            from scheduler.conductor import Conductor
            from scheduler.office import Office

            office = Office(store, stop, allow_volatile=True, cancels=True)  # whatever opened it may close
            try:
                office.take(ANSWER_SECONDS)
                Conductor(office, run).await_end()
            finally:
                office.resign()
        system_clock.sleep(POLL_SECONDS)
    return record
