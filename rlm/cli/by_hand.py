"""How `rlm start --wait` conducts a run itself, with a supervisor of its own if none is alive."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager, nullcontext
from typing import IO, TYPE_CHECKING

import click

from rlm import telemetry
from rlm.admin.start_run import ANSWER_SECONDS, POLL_SECONDS, ask_scheduler
from rlm.cli import uncollected
from rlm.cli.common import CommandError, ExitCode
from rlm.cli.options import FOLLOW_SECONDS
from rlm.cli.printing import is_terminal
from rlm.cli.starting import check_uninterrupted
from rlm.core.clock import system_clock
from rlm.core.errors import FencedError
from rlm.ledger.fitness import require_fit
from rlm.ledger.processes import Role
from rlm.processes import signals
from rlm.processes.fork import Spare, is_alone
from rlm.processes.group import ProcessGroup
from rlm.processes.signals import group_grace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from rlm.core.documents import Record
    from rlm.ledger import Store
    from rlm.processes.signals import StopSignals
    from rlm.settings import Settings
    from rlm.terminal.live import Drawn


def import_shared() -> None:
    """Import what the conductor and its supervisor both need, once, before one is forked from the other."""
    import rlm.delivery.run_end
    import rlm.ledger.store  # noqa: F401  # whoever uses them finds them there


def spare_supervisor(settings: Settings, *, allow_volatile: bool) -> AbstractContextManager[Spare | None]:
    """Return a supervisor in waiting, a copy of this process that need not import everything again.

    Call it before there are connections. None if this process has threads.
    """
    if not is_alone():
        return nullcontext()
    drawn, context = is_terminal(err=True), click.get_current_context()
    import_shared()

    def be(is_wanted: Callable[[], bool]) -> None:
        from rlm.cli.group import orderly
        from rlm.cli.processes import import_supervisor, supervise, warm_template

        with uncollected():
            import_supervisor(settings)
        if drawn:
            os.environ["RLM_LOG_FORMAT"] = "text"
        with orderly(context), warm_template(settings) as template:
            if is_wanted():
                with signals.StopSignals() as stop:
                    signals.unblock(signals.GRACEFUL)
                    supervise(template, settings, stop, allow_volatile=allow_volatile)

    return Spare(be, piped=drawn)


def conduct_here(
    store: Store, stop: StopSignals, interval: float | None, *, allow_volatile: bool, spare: Spare | None = None
) -> Record:
    """Conduct a run in this process; return the record. If no supervisor is alive, `spare` or another becomes one."""
    telemetry.set_up(store.settings, "conductor")
    require_fit(store, allow_volatile=allow_volatile)
    with ExitStack() as stack:
        last = stack.enter_context(ExitStack())  # whoever leads next must not count on the supervisor of this command
        drawn = None
        if is_terminal(err=True):
            from rlm.terminal.live import progress_aside

            drawn = stack.enter_context(progress_aside(store, interval or FOLLOW_SECONDS))
        if not store.processes.alive(Role.SUPERVISOR):  # one comes up while this process imports the conductor
            group = ProcessGroup(stop, group_grace(store.settings))
            stack.enter_context(_own_supervisor(group, store.settings, spare, drawn, allow_volatile=allow_volatile))
        with uncollected():
            from scheduler.office import HandConductor  # Sentry is set up before a broker is built

        conductor = HandConductor(store, stop, allow_volatile=allow_volatile)
        last.callback(conductor.resign)  # also if `campaign` raises, since it may hold the lease by then
        # A scheduler may have come up meanwhile: whoever gets the lease conducts.
        run_id = ask_scheduler(store, patient=True, is_stopped=conductor.leads)
        if run_id is None:
            conductor.campaign(0)
            conductor.await_supervisor(ANSWER_SECONDS)
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


@contextmanager
def _own_supervisor(
    group: ProcessGroup, settings: Settings, spare: Spare | None, drawn: Drawn | None, *, allow_volatile: bool
) -> Iterator[None]:
    """Run a supervisor in `group` during the block. Its output goes to stderr, above the picture if one is `drawn`."""
    if spare is not None and spare.poll() is None:  # one that was killed is no reason to go without
        spare.begin()
        group.add("supervisor", spare, rank=0)
        output = spare.stdout
    else:
        command = ["supervisor"]
        command += ["--config", str(settings.source)] if settings.source else []
        command += ["--allow-volatile"] if allow_volatile else []
        said, environ = (subprocess.PIPE, os.environ | {"RLM_LOG_FORMAT": "text"}) if drawn else (sys.stderr, None)
        output = group.start(command, stdout=said, stderr=subprocess.STDOUT, env=environ).stdout
    with _shown(output, drawn):
        try:
            yield
        finally:
            group.end()


def _shown(output: IO[bytes] | None, drawn: Drawn | None) -> AbstractContextManager[None]:
    if output is None or drawn is None:
        return nullcontext()
    from rlm.terminal.live import lines_above

    return lines_above(output, drawn)
