"""How `rlm start --wait` conducts a run itself, with a supervisor of its own if none is alive."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from rlm import telemetry
from rlm.admin.start_run import ask_scheduler
from rlm.cli.runs import check_uninterrupted, wait_for
from rlm.core.errors import FencedError
from rlm.core.run import Trigger
from rlm.ledger.processes import Role
from rlm.processes.group import ProcessGroup
from rlm.processes.signals import Layer, grace_seconds

if TYPE_CHECKING:
    from rlm.core.documents import Record
    from rlm.ledger.store import Store
    from rlm.processes.signals import StopSignals
    from rlm.settings import Settings

log = logging.getLogger(__name__)


@contextmanager
def own_supervisor(settings: Settings, stop: StopSignals, *, allow_volatile: bool) -> Iterator[None]:
    """Run a supervisor during the block; its output goes to stderr."""
    command = ["supervisor", *(["--config", str(settings.source)] if settings.source else [])]
    command += ["--allow-volatile"] if allow_volatile else []
    group = ProcessGroup(stop, grace_seconds(settings, Layer.GROUP))
    group.start(command, stdout=sys.stderr, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        group.end()


def conduct_here(store: Store, stop: StopSignals, *, allow_volatile: bool) -> Record:
    """Conduct a run in this process, with a supervisor of its own if none is alive; return the record.

    One that a dead conductor left open is finished first.
    """
    telemetry.set_up(store.settings, "conductor")
    store.require_fit(allow_volatile=allow_volatile)
    with ExitStack() as stack:
        last = stack.enter_context(ExitStack())  # whoever leads next must not count on the supervisor of this command
        if not store.processes.alive(Role.SUPERVISOR):  # one comes up while this process imports the conductor
            stack.enter_context(own_supervisor(store.settings, stop, allow_volatile=allow_volatile))
        from scheduler.conductor import Conductor, open_run  # Sentry is set up before a broker is built
        from scheduler.housekeeping import Housekeeper
        from scheduler.office import Office

        office = Office(store, stop, allow_volatile=allow_volatile, cancels=True)
        last.callback(office.resign)  # also if `take` raises, since it may hold the lease by then
        # A scheduler may have come up meanwhile: whoever gets the lease conducts.
        run_id = ask_scheduler(store, patient=True, is_stopped=lambda: office.stop.graceful or office.campaign())
        if run_id is None:
            office.take(0)
            check_uninterrupted(stop)
            if run := store.runs.current():
                extra = {"action": "resume", "run_id": run.id}
                log.info("Run %s was left open; it is finished first", run.id, extra=extra)
                Conductor(office, run).conduct()
            check_uninterrupted(stop)
            run_id = open_run(store, office.token, Trigger.MANUAL, store.now())
            try:
                if (run := store.runs.current()) and run.id == run_id:
                    Conductor(office, run).conduct()
                    Housekeeper(office).step()
            except FencedError:  # another process goes on with the run, or closes it, which is overdue
                pass
        return store.runs.record(run_id) or wait_for(store, run_id, stop)
