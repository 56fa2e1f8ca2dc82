"""How `rlm start` and `rlm cancel` work: ask the scheduler, or conduct the run here, and show its progress."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from rlm import telemetry
from rlm.admin import report
from rlm.admin.ordering import ANSWER_SECONDS, POLL_SECONDS
from rlm.admin.words import is_open
from rlm.cli.common import CommandError, ExitCode
from rlm.cli.options import FOLLOW_SECONDS
from rlm.cli.printing import is_terminal, say
from rlm.cli.status import detached, look_once
from rlm.core.clock import system_clock
from rlm.ledger.fitness import require_fit
from rlm.ledger.processes import Role
from rlm.processes.group import ProcessGroup
from rlm.processes.signals import group_grace
from rlm.terminal.live import Drawn, Lines, lines_above, progress_aside
from rlm.terminal.record import changes, line_of, picture_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.core.run import Run
    from rlm.ledger import Store
    from rlm.processes.signals import StopSignals, Wakeup
    from rlm.settings import Settings

#: How often `rlm start --wait` prints changes without a terminal, seconds.
TOLD_SECONDS = 10.0


def wait_for(store: Store, run_id: str, stop: StopSignals, interval: float | None) -> dict[str, Any]:
    """Show the progress of a run that another process conducts; return its record. Redis may go away meanwhile."""
    drawn = is_terminal(err=True)
    pause = interval or (FOLLOW_SECONDS if drawn else TOLD_SECONDS)
    shown_at = float("-inf")
    output = Drawn(sys.stderr, picture_of, transient=True) if drawn else Lines(say, line_of, changes)
    with output:
        while True:
            record = look_once(store, lambda: store.runs.record(run_id) or {}, output)
            if record:
                return record
            if stop.graceful:
                raise CommandError(detached(run_id), ExitCode.INTERRUPTED)
            if record is not None and system_clock.monotonic() - shown_at >= pause:
                shown_at = system_clock.monotonic()
                found = look_once(store, lambda: report.status(store, run_id, measured=False), output)
                if found is not None and is_open(found):
                    output.show(found)
            system_clock.sleep(POLL_SECONDS)


def conduct_here(
    store: Store, wakeup: Wakeup, stop: StopSignals, interval: float | None, *, allow_volatile: bool
) -> dict[str, Any]:
    """Conduct a run in this process, with a supervisor of its own if none is alive; return the record."""
    telemetry.set_up(store.settings, "conductor")
    require_fit(store, allow_volatile=allow_volatile)
    from scheduler.leader import HandConductor  # Sentry is set up before a broker is built

    conductor = HandConductor(store, wakeup, stop, allow_volatile=allow_volatile)
    with ExitStack() as stack:
        stack.callback(conductor.resign)  # also if `campaign` raises, since it may hold the lease by then
        conductor.campaign(ANSWER_SECONDS)
        drawn = None
        if is_terminal(err=True):
            drawn = stack.enter_context(progress_aside(store, interval or FOLLOW_SECONDS))
        if not store.processes.alive(Role.SUPERVISOR):
            stack.enter_context(_own_supervisor(store.settings, stop, drawn, allow_volatile=allow_volatile))
            conductor.await_supervisor(ANSWER_SECONDS)
        check_uninterrupted(stop)
        conductor.finish_open()
        check_uninterrupted(stop)
        record = conductor.conduct()
    if record is None:
        raise CommandError("The run was closed by another process; see `rlm list`.")
    return record


def check_uninterrupted(stop: StopSignals) -> None:
    """End the command if a signal came before a run was started."""
    if stop.graceful:
        raise CommandError("Interrupted before a run was started.", ExitCode.INTERRUPTED)


@contextmanager
def _own_supervisor(
    settings: Settings, stop: StopSignals, drawn: Drawn | None, *, allow_volatile: bool
) -> Iterator[None]:
    """Run a supervisor during the block. Its output goes to stderr, above the picture if one is `drawn` there."""
    command = ["supervisor"]
    command += ["--config", str(settings.source)] if settings.source else []
    command += ["--allow-volatile"] if allow_volatile else []
    said, environ = (subprocess.PIPE, os.environ | {"RLM_LOG_FORMAT": "text"}) if drawn else (sys.stderr, None)
    group = ProcessGroup(stop, group_grace(settings))
    child = group.start(command, stdout=said, stderr=subprocess.STDOUT, env=environ)
    with lines_above(child.stdout, drawn) if drawn and child.stdout else nullcontext():
        try:
            yield
        finally:
            group.end()


def await_close(store: Store, run: Run, wakeup: Wakeup, stop: StopSignals) -> dict[str, Any]:
    """Wait until a run is closed and return its record; close it here if no conductor answers."""
    until = system_clock.monotonic() + ANSWER_SECONDS
    while (record := store.runs.record(run.id)) is None:
        if stop.graceful:
            raise CommandError(f"Run {run.id} is being cancelled; see `rlm status`.", ExitCode.INTERRUPTED)
        if system_clock.monotonic() > until and store.leases.holder() is None:
            from scheduler.leader import HandConductor

            conductor = HandConductor(store, wakeup, stop, allow_volatile=True)  # whatever opened it may close
            try:
                conductor.campaign(ANSWER_SECONDS)
                conductor.close_open(run.id)
            finally:
                conductor.resign()
        system_clock.sleep(POLL_SECONDS)
    return record
