"""How `rlm start --wait` conducts a run itself, with a supervisor of its own if none is alive."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, TYPE_CHECKING

from rlm import telemetry
from rlm.admin.start_run import POLL_SECONDS, ask_scheduler
from rlm.cli import uncollected
from rlm.cli.common import CommandError, ExitCode
from rlm.cli.options import FOLLOW_SECONDS
from rlm.cli.printing import is_terminal
from rlm.cli.starting import check_uninterrupted
from rlm.core.clock import system_clock
from rlm.core.errors import FencedError
from rlm.ledger.fitness import require_fit
from rlm.ledger.processes import Role
from rlm.processes.group import ProcessGroup
from rlm.processes.signals import Layer, grace_seconds

if TYPE_CHECKING:
    from rlm.core.documents import Record
    from rlm.ledger.store import Store
    from rlm.processes.signals import StopSignals
    from rlm.settings import Settings


@contextmanager
def own_supervisor(settings: Settings, stop: StopSignals, *, allow_volatile: bool) -> Iterator[IO[bytes] | None]:
    """Run a supervisor during the block. Its output goes to stderr, or is what is yielded, to show above a picture."""
    command = ["supervisor", *(["--config", str(settings.source)] if settings.source else [])]
    command += ["--allow-volatile"] if allow_volatile else []
    drawn = is_terminal(err=True)
    output, environ = (subprocess.PIPE, os.environ | {"RLM_LOG_FORMAT": "text"}) if drawn else (sys.stderr, None)
    group = ProcessGroup(stop, grace_seconds(settings, Layer.GROUP))
    process = group.start(command, stdout=output, stderr=subprocess.STDOUT, env=environ)
    try:
        yield process.stdout
    finally:
        group.end()


def conduct_here(store: Store, stop: StopSignals, interval: float | None, *, allow_volatile: bool) -> Record:
    """Conduct a run in this process, with a supervisor of its own if none is alive; return the record."""
    telemetry.set_up(store.settings, "conductor")
    require_fit(store, allow_volatile=allow_volatile)
    with ExitStack() as stack:
        last = stack.enter_context(ExitStack())  # whoever leads next must not count on the supervisor of this command
        drawn = None
        if is_terminal(err=True):
            from rlm.terminal.live import progress_aside

            drawn = stack.enter_context(progress_aside(store, interval or FOLLOW_SECONDS))
        if not store.processes.alive(Role.SUPERVISOR):  # one comes up while this process imports the conductor
            output = stack.enter_context(own_supervisor(store.settings, stop, allow_volatile=allow_volatile))
            if output is not None and drawn is not None:
                from rlm.terminal.live import lines_above

                stack.enter_context(lines_above(output, drawn))
        with uncollected():
            from scheduler.byhand import HandConductor  # Sentry is set up before a broker is built

        conductor = HandConductor(store, stop, allow_volatile=allow_volatile)
        last.callback(conductor.resign)  # also if `campaign` raises, since it may hold the lease by then
        # A scheduler may have come up meanwhile: whoever gets the lease conducts.
        run_id = ask_scheduler(store, patient=True, is_stopped=conductor.leads)
        if run_id is None:
            conductor.campaign(0)
            check_uninterrupted(stop)
            conductor.finish_open()
            check_uninterrupted(stop)
            try:
                record = conductor.conduct()
            except FencedError:  # another process goes on with the run, or closes it, which is overdue
                run_id = conductor.run_id
        if run_id is not None:
            record = _conducted_elsewhere(store, run_id, stop)
    if record is None:
        raise CommandError("The run was closed by another process; see `rlm list`.")
    return record


def _conducted_elsewhere(store: Store, run_id: str, stop: StopSignals) -> Record | None:
    while store.runs.is_open(run_id):
        if stop.graceful:
            told = f"Another process conducts run {run_id} by now; see `rlm status`."
            raise CommandError(told, ExitCode.INTERRUPTED)
        system_clock.sleep(POLL_SECONDS)
    return store.runs.record(run_id)
