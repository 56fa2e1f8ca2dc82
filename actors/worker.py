"""A worker process: a `dramatiq.Worker` whose threads are lanes, alive as long as it is wanted."""

from __future__ import annotations

import logging
import os
import random
import select
import sys
import threading
from dataclasses import replace
from functools import partial

from actors.broker import WakingBroker
from rlm.ledger import Store, open_store
from rlm.processes.fork import Forked, Template
from rlm.settings import Settings

# Dramatiq reads this when it is imported: a consumer that lost Redis tries again soon, since seconds matter to a run.
os.environ.setdefault("dramatiq_restart_delay", "500")

from multiprocessing.connection import Connection

import dramatiq
from setproctitle import setproctitle

from actors.broker import LaneQueue
from actors.messages import DISPATCH, LEFTOVERS, declare
from rlm import __version__, telemetry
from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.core.failpoints import crash_point
from rlm.delivery.http import Dispatcher
from rlm.delivery.lane import Lanes
from rlm.delivery.run_end import PATIENCE_SECONDS, SPREAD_SECONDS, OverdueWatch, close_run
from rlm.ledger.fitness import require_fit
from rlm.ledger.processes import BRISK_SECONDS, HEARTBEAT_SECONDS, Role, WorkerState
from rlm.ledger.waker import Waker
from rlm.processes import signals
from rlm.processes.alive import AliveFile, entry_of
from rlm.processes.signals import worker_grace
from rlm.settings.secrets import resolve_headers

#: The exit status of a worker that could not go on: a consumer or lane died, or the grace period was over.
UNFIT = 70
#: Seconds until a worker repeats a failed announcement.
AGAIN_SECONDS = 0.5

log = logging.getLogger(__name__)


def run_worker(
    made: Store, lifeline: Connection | None, worker_id: str, supervisor_id: str = "", *, allow_volatile: bool = False
) -> None:
    """Run a worker process until TERM, the death of its supervisor, or an open run with another configuration.

    It opens the store `made`, which may have been made before a fork. `worker_id` is its name in the ledger and at the
    broker. The `lifeline` becomes readable when its supervisor is gone. A worker started by hand has no lifeline and no
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
        self._said_at = self._beat_at = float("-inf")
        self._said_every = 0.0
        self._dispatcher = Dispatcher(resolve_headers)
        self._lanes = Lanes(store, self._settings, self._dispatcher, worker_id, self._wakeup.wake)
        patience = PATIENCE_SECONDS + random.uniform(0.0, SPREAD_SECONDS)
        ended = partial(telemetry.run_ended, store.settings)
        self._overdue = self._lanes.overdue = OverdueWatch(store, patience, on_closed=ended, wake=self._wakeup.wake)
        self._broker = WakingBroker(store)
        self._broker.broker_id = worker_id
        declare(self._broker, DISPATCH, self._lanes.carry)
        declare(self._broker, LEFTOVERS, self._close)
        threads = self._settings.workers.threads
        self._worker = dramatiq.Worker(self._broker, worker_threads=threads)
        self._messages = self._worker.work_queue = LaneQueue()
        # One message for each lane: more would wait here while a lane of another worker may be free.
        self._worker.queue_prefetch = threads

    def _close(self, run_id: str) -> None:
        crash_point("worker.closing")
        close_run(self._store, run_id)
        crash_point("worker.closed")

    def run(self) -> None:
        """Work until there is a reason to stop, then stop."""
        crash_point("worker.started")
        waker = Waker(self._store.url, self._store.keys.wake("workers"), self._woken)
        waker.start()
        self._worker.start()
        told = "Worker %s (rlm %s, pid %d) is ready with %d lanes"
        extra = {"action": "start_worker"}
        log.info(told, self._id, __version__, os.getpid(), self._settings.workers.threads, extra=extra)
        try:
            reason = self._work()
            log.info("Worker %s stops: %s", self._id, reason, extra={"action": "stop_worker"})
        finally:
            whole = self._is_whole()  # before its threads end
            clean = self._wind_down() and whole
            waker.stop()
            self._dispatcher.close()
        if not clean:
            sys.stdout.flush()
            telemetry.flush()
            os._exit(UNFIT)  # hung threads must not keep the process alive; the supervisor frees their events

    def _woken(self) -> None:
        """Look for messages and for the open run: the workers that have all of its messages may die."""
        self._broker.wake()
        self._overdue.ask()

    def _work(self) -> str:
        """Announce this worker until there is a reason to stop; return the reason."""
        watched: list[signals.Wakeup | Connection] = [self._wakeup, *([self._lifeline] if self._lifeline else [])]
        while True:
            pause = self._keep_announced()
            self._overdue.look()
            readable, _, _ = select.select(watched, [], [], min(pause, self._overdue.pause_seconds))
            self._wakeup.drain()
            if self._stop.graceful:
                return "it was asked to"
            if self._lifeline in readable:
                return "its supervisor is gone"
            if self._lanes.outdated:
                return "the open run has another configuration"
            if not self._is_whole():
                return "its consumer or a lane died"

    def _is_whole(self) -> bool:
        """Return whether no lane and no consumer has died; one that was asked to end does not count."""
        consumers, lanes = self._worker.consumers.values(), self._worker.workers
        died = any(one.running and not one.is_alive() for one in consumers)
        return not died and not any(one.running and not one.is_alive() for one in lanes)

    def _keep_announced(self) -> float:
        """Announce this worker if that is due; return the seconds until the next announcement.

        With events in hand it announces more often, so that its share goes to others sooner if its host is lost.
        """
        every = HEARTBEAT_SECONDS if self._lanes.rest() else BRISK_SECONDS
        due = self._due_seconds(every)
        if due > 0:
            return due
        return self._due_seconds(every) if self._announce(WorkerState.READY, every) else AGAIN_SECONDS

    def _due_seconds(self, every: float) -> float:
        """Return the seconds until an announcement is due, also by the interval that was announced last."""
        return min(self._said_at + min(every, self._said_every), self._beat_at) - system_clock.monotonic()

    def _announce(self, state: WorkerState, every: float = BRISK_SECONDS) -> bool:
        """Announce this worker and its interval, `every` seconds; return whether Redis received it."""
        process = replace(self._process, state=state, every=every)
        try:
            self._store.processes.announce(Role.WORKER, process, entered=bool(self._supervisor_id))
        except StoreError as error:
            self._overdue.note_outage(system_clock.monotonic())
            level = logging.INFO if self._heard else logging.DEBUG  # once per outage: it retries twice a second
            log.log(level, "Worker %s cannot announce itself: %s", self._id, error, extra={"action": "announce"})
            self._heard = False
            return False
        self._heard, self._said_at, self._said_every = True, system_clock.monotonic(), every
        self._beat_at = self._said_at + system_clock.to_beat(HEARTBEAT_SECONDS)
        return True

    def _wind_down(self) -> bool:
        """Finish calls in flight, claim nothing more; return False if that took too long or a signal cut it short."""
        self._announce(WorkerState.STOPPING)
        crash_point("worker.leaving")
        self._broker.stop_fetching()
        self._lanes.leaving = True
        stopping = threading.Thread(target=self._worker.stop, name="stop", daemon=True)
        stopping.start()
        self._messages.close()
        deadline = system_clock.monotonic() + worker_grace(self._settings)
        heard_until = system_clock.monotonic() + BRISK_SECONDS
        while stopping.is_alive():
            now = system_clock.monotonic()
            if self._stop.immediate or now > deadline:
                return False
            if now > heard_until:  # otherwise its supervisor would take it for frozen
                self._announce(WorkerState.STOPPING)
                heard_until = now + BRISK_SECONDS
            stopping.join(0.02)
        try:
            self._broker.forget(self._id)
            if self._lifeline is None or self._lifeline.poll():  # otherwise its supervisor does it later
                self._store.processes.forget(Role.WORKER, self._id)
        except StoreError as error:
            log.warning("Worker %s could not sign off: %s", self._id, error, extra={"action": "stop_worker"})
        return True


def worker_template(settings: Settings) -> Template:
    """Return a template of workers; enter it before this process has threads and connections.

    Each worker has these settings: it does not read a configuration file that was edited since, and a secret in the
    file is not on its command line. It opens the store made here, whose memory is shared.
    """
    return Template(partial(run_worker, open_store(settings)))


class TemplateLauncher:
    """Spawns workers from a template: 20 are ready in half a second, and share the imported modules."""

    def __init__(self, template: Template, store: Store) -> None:
        self._template = template
        self._broker = WakingBroker(store)

    def spawn(self, worker_id: str, supervisor_id: str) -> Forked:
        """Start a worker process; the end of the supervisor does not cut its calls."""
        return self._template.spawn(worker_id, supervisor_id)

    def forget(self, worker_id: str) -> None:
        """Delete the messages that a dead worker had fetched."""
        self._broker.forget(worker_id)
