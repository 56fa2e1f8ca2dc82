"""What a leader does between runs, in small steps, so that the next run never waits for it.

After a run, whoever closed it, it checks whether the promises were kept. It archives dead letters of which Redis keeps
no more, removes what processes left in Redis when they died, and puts back events that are in no set. An open run needs
none of it: leases expire, and other workers continue.

It raises FencedError if another scheduler leads, because that may have a run open; it logs errors of Redis.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from rlm import telemetry
from rlm.admin.compliance import excess_of
from rlm.core.clock import system_clock, timestamp
from rlm.core.documents import Record
from rlm.core.endpoint import LEASE_SLACK_SECONDS
from rlm.core.errors import FencedError, StoreError, StoreGarbledError
from rlm.core.run import State, Trigger
from rlm.core.text import counted
from rlm.ledger.processes import HEARTBEAT_TTL_SECONDS, Role
from scheduler.office import Office

#: Seconds between two looks for dead processes.
LOOK_SECONDS = 5.0
#: Seconds from one look through all events to the next; a run's end begins one as well.
STRAY_SECONDS = 60.0

log = logging.getLogger(__name__)


class Housekeeper:
    """Inspects closed runs, archives dead letters, and removes what dead processes left in Redis.

    Redis does not record since when a worker is missing, so the housekeeper measures that itself.
    """

    def __init__(self, office: Office) -> None:
        self._office = office
        self._store = office.store
        timeouts = (each.timeout_seconds for kind in office.store.settings.event_types for each in kind.endpoints)
        longest = max(timeouts) + LEASE_SLACK_SECONDS
        self._patience = dict.fromkeys(Role, HEARTBEAT_TTL_SECONDS) | {Role.WORKER: HEARTBEAT_TTL_SECONDS + longest}
        self._missed: dict[tuple[Role, str], float] = {}
        self._seen: list[str] = []  #: the last run, if it was inspected
        self._looked_at = float("-inf")
        #: Where the look through all events is, and when the next one begins, monotonic seconds.
        self._cursor, self._adopts_at = 0, float("-inf")

    def step(self) -> bool:
        """Do one step when there is nothing else to do; return whether there is more. No run may be open."""
        try:
            self._inspect()
            self._tidy_up()
            self._adopt()
            return self._store.archivist.step()
        except FencedError:
            raise
        except StoreError as error:
            log.info("Nothing can be tidied up while Redis fails: %s", error, extra={"action": "tidy_up"})
            return False

    def _inspect(self) -> None:
        """Look over the last run, unless somebody has; report the end of its tick."""
        if (newest := self._store.runs.history(1)) == self._seen:
            return
        with suppress(StoreGarbledError), self._store.guarded():  # a record may hold anything, and runs go on
            for record in self._store.runs.recent(1):
                if record.run_id != self._store.leases.read().ended:
                    self._look_over(record)
        self._seen, self._adopts_at = newest, float("-inf")

    def _look_over(self, record: Record) -> None:
        """Note by how much it exceeded the limits, forget the oldest calls, and report the end of its tick."""
        store = self._store
        excess = {name: calls for name, calls in excess_of(store, record).items() if calls}
        store.calls.trim()
        store.runs.trim()
        store.leases.note_end(record.run_id, excess)
        if record.trigger == Trigger.SCHEDULE:
            due, ok = timestamp(record.started_at), record.state != State.FAILED
            telemetry.tick(store.settings, due, ok=ok, seconds=record.duration_seconds)

    def _tidy_up(self) -> None:
        """If a look is due, clean up after processes that are missing for too long.

        After an outage of Redis all are missing briefly. Workers are removed only after any lease has expired.
        """
        now = system_clock.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        register = self._store.processes.register().entries
        missing = [(role, name) for role, there in register.items() for name, entry, _ in there if entry is None]
        self._missed = {process: self._missed.get(process, now) for process in missing}
        for (role, process_id), since in self._missed.items():
            if now - since < self._patience[role]:
                continue
            self._office.keep()
            if role is Role.WORKER:
                self._store.recovery.reap(process_id)
                told = "Worker %s is gone, and its supervisor with it; nothing of it is left in Redis"
                log.info(told, process_id, extra={"action": "forget_worker"})
            else:
                told = "The %s %s has not been heard from, and never signed off: it, or its host, died"
                log.warning(told, role, process_id, extra={"action": "forget_process"})
            self._store.processes.forget(role, process_id)

    def _adopt(self) -> None:
        """Look at some events, if a look is due; put back those that are in no set of the ledger."""
        if system_clock.monotonic() < self._adopts_at:
            return
        self._cursor, adopted = self._store.recovery.adopt(self._cursor)
        if not self._cursor:
            self._adopts_at = system_clock.monotonic() + STRAY_SECONDS
        if adopted:
            told = "Put back %s in no set of the ledger, such as %s: a key was deleted, or writes were lost"
            log.warning(told, counted(len(adopted), "event"), adopted[0], extra={"action": "adopt_events"})
