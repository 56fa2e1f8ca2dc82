"""A worker process: a `dramatiq.Worker` whose threads are lanes, alive as long as it is wanted.

The messages of its actors come from this process and are for it: its lanes, and the run that one of them found to be
over. So they stay in its memory. In Redis they could be lost with a reply, forged, or left behind by a dead worker, and
they cost commands while there is nothing to do (docs/adr/0008-broker.md).
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import select
import sys
import threading

import dramatiq
from dramatiq.brokers.stub import StubBroker
from msgspec.structs import replace
from setproctitle import setproctitle

from actors.dispatch import make_dispatch
from actors.record import make_record
from rlm import __version__, telemetry
from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.core.failpoints import crash_point
from rlm.delivery.http import Connections
from rlm.delivery.lane import Lanes
from rlm.ledger.processes import HEARTBEAT_SECONDS, Role, WorkerState
from rlm.ledger.store import Store
from rlm.ledger.waker import Waker
from rlm.processes.sharing import entry_of
from rlm.processes.signals import Layer, StopSignals, grace_seconds
from rlm.settings import Settings, secrets_of
from rlm.settings.secrets import remember

#: The exit status of a worker that could not go on: a lane died, or the grace period was over.
UNFIT = 70
#: How often the threads of Dramatiq look around unasked, milliseconds: a message in memory wakes them.
POLL_MILLISECONDS = 60_000
#: Seconds until a worker repeats a failed announcement.
AGAIN_SECONDS = 0.5

log = logging.getLogger(__name__)


def run_worker(settings: Settings, worker_id: str, supervisor_id: str = "", *, allow_volatile: bool = False) -> None:
    """Run a worker process until TERM or the death of its supervisor.

    `worker_id` is its name in the ledger. A worker started by hand has no supervisor, and accepts a Redis without an
    append-only file only with `allow_volatile`. That of a supervisor has the supervisor's settings: it does not read a
    file that was edited since.

    Raises:
        StoreError: no usable Redis, for a worker started by hand; under a supervisor it waits for one.
    """
    if supervisor_id:
        os.setsid()
    with StopSignals(shows_life=not supervisor_id) as stop:
        setproctitle(f"rlm worker {worker_id} ({settings.workers.threads} lanes)")
        remember(secrets_of(settings, os.environ))  # they were loaded in another process
        telemetry.set_up(settings, Role.WORKER, worker_id)
        try:
            with Store(settings, keeps_server=True) as store:
                if not supervisor_id:
                    store.require_fit(allow_volatile=allow_volatile)
                WorkerProcess(store, worker_id, supervisor_id, stop).run()
        except Exception as error:
            if not supervisor_id:
                raise  # the command prints the error
            trace = not isinstance(error, StoreError)  # a failure of Redis needs none
            extra = {"action": "stop_worker"}
            log.log(logging.ERROR, "Worker %s broke off: %s", worker_id, error, exc_info=trace, extra=extra)
            raise SystemExit(UNFIT) from None
        finally:
            if supervisor_id:  # a forked process runs no exit handlers
                telemetry.flush()


class WorkerProcess:
    """The main loop of a worker: announce, listen, and at the end stop without cutting a call."""

    def __init__(self, store: Store, worker_id: str, supervisor_id: str, stop: StopSignals) -> None:
        self._store = store
        self._stop = stop
        parent = multiprocessing.parent_process()
        #: Readable when its supervisor is gone.
        self._lifeline = [parent.sentinel] if parent and supervisor_id else []
        entry = entry_of(store.settings, worker_id, os.getpid(), system_clock.now())
        self._entry = replace(entry, state=WorkerState.READY, supervisor=supervisor_id)
        self._beat_at = float("-inf")  #: when it announces itself again, monotonic seconds
        self._is_whole = True  #: no lane has ended yet
        self._connections = Connections()
        broker = StubBroker(middleware=[])
        self._lanes = Lanes(store, self._connections, worker_id, make_record(broker, store).send)
        self._dispatch = make_dispatch(broker, self._carry)
        # Lanes never leave their threads, so the end of a run needs one more.
        threads = store.settings.workers.threads + 1
        self._worker = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=POLL_MILLISECONDS)

    def _carry(self) -> None:
        try:
            self._lanes.carry()
        finally:
            self._is_whole = False
            self._stop.wake()

    def run(self) -> None:
        """Work until there is a reason to stop, then stop."""
        crash_point("worker.started")
        waker = Waker(self._store.url, self._store.keys.wake("workers"), self._lanes.gate.wake)
        waker.start()
        self._worker.start()
        for _ in range(self._entry.threads):
            self._dispatch.send()
        message = "Worker %s (rlm %s, pid %d) is ready with %d lanes"
        extra = {"action": "start_worker"}
        log.info(message, self._entry.id, __version__, os.getpid(), self._entry.threads, extra=extra)
        try:
            while not (reason := self._reason_to_stop()):
                self._keep_announced()
            log.info("Worker %s stops: %s", self._entry.id, reason, extra={"action": "stop_worker"})
        finally:
            is_whole = self._is_whole  # before its lanes end in order
            is_clean = self._wind_down() and is_whole
            waker.stop()
            self._connections.close()
        if not is_clean:
            sys.stdout.flush()
            telemetry.flush()
            os._exit(UNFIT)  # hung threads must not keep the process alive; the supervisor frees their events

    def _reason_to_stop(self) -> str:
        """Wait until the next announcement is due or something happens; return why to stop, empty to go on."""
        seconds = max(0.0, self._beat_at - system_clock.monotonic())
        watched: list[StopSignals | int] = [self._stop, *self._lifeline]
        readable, _, _ = select.select(watched, [], [], seconds)
        self._stop.drain()
        if self._stop.graceful:
            return "it was asked to"
        if {*self._lifeline} & {*readable}:
            return "its supervisor is gone"
        return "" if self._is_whole else "a lane died"

    def _keep_announced(self) -> None:
        """Announce this worker if that is due."""
        now, lanes = system_clock.monotonic(), self._lanes
        if now < self._beat_at:
            return
        entry = replace(self._entry, sleeping=lanes.sleeping, completed=lanes.completed.total())
        try:
            self._store.processes.announce(Role.WORKER, entry)
            self._beat_at = system_clock.next_beat(HEARTBEAT_SECONDS)
        except StoreError as error:
            log.debug("Worker %s cannot announce itself: %s", entry.id, error, extra={"action": "announce"})
            self._beat_at = now + AGAIN_SECONDS

    def _wind_down(self) -> bool:
        """Finish calls in flight, claim nothing more; return False if that took too long or a signal cut it short."""
        self._entry, self._beat_at = replace(self._entry, state=WorkerState.STOPPING), float("-inf")
        crash_point("worker.leaving")
        self._lanes.gate.stop()
        # Not `stop`: the threads have nothing to do any more, and notice only when they look around.
        at_work = threading.Thread(target=self._worker.join, name="stop", daemon=True)
        at_work.start()
        deadline = system_clock.monotonic() + grace_seconds(self._store.settings, Layer.WORKER)
        while at_work.is_alive():
            if self._stop.immediate or system_clock.monotonic() > deadline:
                return False
            self._keep_announced()
            at_work.join(0.02)
        if not self._lifeline or select.select(self._lifeline, [], [], 0)[0]:  # else its supervisor does it
            try:
                self._store.ledger.reap(self._entry.id, died=False)  # what its lanes noted
                self._store.processes.forget(Role.WORKER, self._entry.id)
            except StoreError as error:
                log.warning("Worker %s could not sign off: %s", self._entry.id, error, extra={"action": "stop_worker"})
        return True
