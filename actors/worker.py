"""A worker process: a `dramatiq.Worker` whose threads are lanes, alive as long as it is wanted.

The messages of its actors come from this process and are for it: its lanes, and the run that one of them found to be
over. So they stay in its memory. In Redis they could be lost with a reply, forged, or left behind by a dead worker, and
they cost commands while there is nothing to do (docs/adr/0008-broker.md).
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection

import dramatiq
from dramatiq.brokers.stub import StubBroker
from setproctitle import setproctitle

from actors.dispatch import make_dispatch
from actors.record import make_record
from rlm import __version__, telemetry
from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.core.failpoints import crash_point
from rlm.delivery.http import Dispatcher
from rlm.delivery.lane import Lanes
from rlm.ledger import Store
from rlm.ledger.fitness import require_fit
from rlm.ledger.processes import HEARTBEAT_SECONDS, Role, WorkerState
from rlm.ledger.waker import Waker
from rlm.processes import signals
from rlm.processes.alive import AliveFile, entry_of
from rlm.processes.fork import Template
from rlm.processes.signals import worker_grace
from rlm.settings import Settings
from rlm.settings.secrets import resolve_headers

#: The exit status of a worker that could not go on: a lane died, or the grace period was over.
UNFIT = 70
#: How often the threads of Dramatiq look around unasked, milliseconds: a message in memory wakes them.
POLL_MILLISECONDS = 60_000
#: Seconds until a worker repeats a failed announcement.
AGAIN_SECONDS = 0.5

log = logging.getLogger(__name__)


def run_worker(
    made: Store, lifeline: Connection | None, worker_id: str, supervisor_id: str = "", *, allow_volatile: bool = False
) -> None:
    """Run a worker process until TERM or the death of its supervisor.

    It opens the store `made`, which may have been made before a fork. `worker_id` is its name in the ledger. The
    `lifeline` becomes readable when its supervisor is gone. A worker started by hand has no lifeline and no
    supervisor, and accepts a Redis without an append-only file only with `allow_volatile`.

    Raises:
        StoreError: no usable Redis, for a worker started by hand; under a supervisor it waits for one.
    """
    if supervisor_id:
        os.setsid()
    with signals.StopSignals(signals.Wakeup(None if supervisor_id else AliveFile().touch)) as stop:
        signals.unblock(signals.GRACEFUL)
        setproctitle(f"rlm worker {worker_id} ({made.settings.workers.threads} lanes)")
        telemetry.set_up(made.settings, Role.WORKER, worker_id)
        try:
            with made as store:
                if not supervisor_id:
                    require_fit(store, allow_volatile=allow_volatile)
                WorkerProcess(store, worker_id, supervisor_id, lifeline, stop).run()
        except Exception as error:
            if not supervisor_id:
                raise  # the command prints the error
            if isinstance(error, StoreError):
                log.warning(
                    "Worker %s ends, because Redis failed: %s", worker_id, error, extra={"action": "stop_worker"}
                )
            else:
                log.exception("Worker %s broke off", worker_id, extra={"action": "stop_worker"})
            raise SystemExit(UNFIT) from None
        finally:
            if supervisor_id:  # a forked process runs no exit handlers
                telemetry.flush()


class WorkerProcess:
    """The main loop of a worker: announce, listen, and at the end stop without cutting a call."""

    def __init__(
        self, store: Store, worker_id: str, supervisor_id: str, lifeline: Connection | None, stop: signals.StopSignals
    ) -> None:
        self._store = store
        self._settings = store.settings
        self._supervisor_id = supervisor_id
        self._lifeline = lifeline
        self._wakeup = stop.wakeup
        self._stop = stop
        self._id = worker_id
        known = entry_of(store.settings, worker_id, os.getpid(), system_clock.now())
        self._process = replace(known, supervisor=supervisor_id)
        self._heard = True
        self._beat_at = float("-inf")  #: when it announces itself again, monotonic seconds
        self._said_sleeping = ""
        self._lane_ended = False
        self._dispatcher = Dispatcher(resolve_headers)
        self._lanes = Lanes(store, self._settings, self._dispatcher, worker_id, self._wakeup.wake)
        broker = StubBroker(middleware=[])
        self._dispatch = make_dispatch(broker, self._carry)
        self._lanes.record = make_record(broker, store).send
        # Lanes never leave their threads, so the end of a run needs one more.
        threads = self._settings.workers.threads + 1
        self._worker = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=POLL_MILLISECONDS)

    def _carry(self) -> None:
        try:
            self._lanes.carry()
        finally:
            self._lane_ended = True
            self._wakeup.wake()

    def run(self) -> None:
        """Work until there is a reason to stop, then stop."""
        crash_point("worker.started")
        waker = Waker(self._store.url, self._store.keys.wake("workers"), self._lanes.wake)
        waker.start()
        self._worker.start()
        for _ in range(self._settings.workers.threads):
            self._dispatch.send()
        told = "Worker %s (rlm %s, pid %d) is ready with %d lanes"
        extra = {"action": "start_worker"}
        log.info(told, self._id, __version__, os.getpid(), self._settings.workers.threads, extra=extra)
        try:
            reason = self._work()
            log.info("Worker %s stops: %s", self._id, reason, extra={"action": "stop_worker"})
        finally:
            whole = not self._lane_ended  # before its lanes end in order
            clean = self._wind_down() and whole
            waker.stop()
            self._dispatcher.close()
        if not clean:
            sys.stdout.flush()
            telemetry.flush()
            os._exit(UNFIT)  # hung threads must not keep the process alive; the supervisor frees their events

    def _work(self) -> str:
        """Announce this worker until there is a reason to stop; return the reason."""
        watched: list[signals.Wakeup | Connection] = [self._wakeup, *([self._lifeline] if self._lifeline else [])]
        while True:
            readable, _, _ = select.select(watched, [], [], self._keep_announced())
            self._wakeup.drain()
            if self._stop.graceful:
                return "it was asked to"
            if self._lifeline in readable:
                return "its supervisor is gone"
            if self._lane_ended:
                return "a lane died"

    def _keep_announced(self) -> float:
        """Announce this worker if that is due, or if it fell asleep; return the seconds until the next announcement."""
        is_due = self._beat_at <= system_clock.monotonic() or self._lanes.sleeping != self._said_sleeping
        if is_due and not self._announce(WorkerState.READY):
            return AGAIN_SECONDS
        return self._beat_at - system_clock.monotonic()

    def _announce(self, state: WorkerState) -> bool:
        """Announce this worker; return whether Redis received it."""
        sleeping = self._lanes.sleeping
        process = replace(self._process, state=state, sleeping=sleeping)
        try:
            self._store.processes.announce(Role.WORKER, process, entered=bool(self._supervisor_id))
        except StoreError as error:
            level = logging.INFO if self._heard else logging.DEBUG  # once per outage: it retries twice a second
            log.log(level, "Worker %s cannot announce itself: %s", self._id, error, extra={"action": "announce"})
            self._heard = False
            return False
        self._heard, self._said_sleeping = True, sleeping
        self._beat_at = system_clock.monotonic() + system_clock.to_beat(HEARTBEAT_SECONDS)
        return True

    def _wind_down(self) -> bool:
        """Finish calls in flight, claim nothing more; return False if that took too long or a signal cut it short."""
        self._announce(WorkerState.STOPPING)
        crash_point("worker.leaving")
        self._lanes.stop()
        # Not `stop`: the threads have nothing to do any more, and notice only when they look around.
        at_work = threading.Thread(target=self._worker.join, name="stop", daemon=True)
        at_work.start()
        deadline = system_clock.monotonic() + worker_grace(self._settings)
        heard_until = system_clock.monotonic() + HEARTBEAT_SECONDS
        while at_work.is_alive():
            now = system_clock.monotonic()
            if self._stop.immediate or now > deadline:
                return False
            if now > heard_until:  # otherwise its supervisor would take it for frozen
                self._announce(WorkerState.STOPPING)
                heard_until = now + HEARTBEAT_SECONDS
            at_work.join(0.02)
        if self._lifeline is None or self._lifeline.poll():  # otherwise its supervisor does it later
            try:
                self._store.recovery.reap(self._id, died=False)  # what its lanes noted
                self._store.processes.forget(Role.WORKER, self._id)
            except StoreError as error:
                log.warning("Worker %s could not sign off: %s", self._id, error, extra={"action": "stop_worker"})
        return True


def worker_template(settings: Settings) -> Template:
    """Return a template of workers; enter it before this process has threads and connections.

    Each worker has these settings: it does not read a configuration file that was edited since, and a secret in the
    file is not on its command line. It opens the store made here, whose memory is shared.
    """
    return Template(partial(run_worker, Store(settings, keeps_server=True)))
