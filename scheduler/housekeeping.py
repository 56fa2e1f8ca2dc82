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
from rlm.admin.endpoints import excess_of
from rlm.core.clock import system_clock, timestamp
from rlm.core.documents import Record
from rlm.core.errors import FencedError, StoreError, StoreGarbledError
from rlm.core.run import State, Trigger
from rlm.core.text import counted
from rlm.ledger.processes import HEARTBEAT_TTL_SECONDS, Role
from scheduler.office import Office

#: Seconds from one look through all events to the next; a run's end begins one as well.
STRAY_SECONDS = 60.0

log = logging.getLogger(__name__)


class Housekeeper:
    """Inspects closed runs, archives dead letters, and removes what dead processes left in Redis.

    Redis does not record since when a process is missing, so the housekeeper looks twice.
    """

    def __init__(self, office: Office) -> None:
        self._office = office
        self._store = office.store
        self._missing: set[tuple[Role, str]] = set()  #: by the last look
        self._seen: list[str] = []  #: the last run, if it was inspected
        self._cursor = 0  #: where the look through all events is
        self._tidies_at = self._adopts_at = float("-inf")  #: when the next looks begin, monotonic seconds

    def step(self, *, inspects: bool = True) -> bool:
        """Do one step when there is nothing else to do; return whether there is more. No run may be open.

        It inspects the last run if a run may have ended, and from time to time, for others conduct runs, too.
        """
        try:
            if inspects or system_clock.monotonic() >= self._tidies_at:
                self._inspect()
            self._tidy_up()
            self._adopt()
            return self._store.letters.archive_some() or bool(self._cursor)
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
        """If a look is due, clean up after processes that were missing at the one before as well.

        After an outage of Redis all are missing briefly. No run is open, so none of them has a call.
        """
        if system_clock.monotonic() < self._tidies_at:
            return
        register = self._store.processes.register().entries
        missing = {(role, name) for role, there in register.items() for name, entry, _ in there if entry is None}
        for role, process_id in missing & self._missing:
            self._office.keep()
            if role is Role.WORKER:
                self._store.ledger.reap(process_id)
            self._store.processes.forget(role, process_id)
            told = "The %s %s has not been heard from, and never signed off: it, or its host, died"
            log.warning(told, role, process_id, extra={"action": "forget_process"})
        self._missing, self._tidies_at = missing, system_clock.monotonic() + HEARTBEAT_TTL_SECONDS

    def _adopt(self) -> None:
        """Look at some events, if a look is due; put back those that are in no set of the ledger."""
        if system_clock.monotonic() < self._adopts_at:
            return
        self._cursor, adopted = self._store.ledger.adopt(self._cursor)
        if not self._cursor:
            self._adopts_at = system_clock.monotonic() + STRAY_SECONDS
        if adopted:
            told = "Put back %s in no set of the ledger, such as %s: a key was deleted, or writes were lost"
            log.warning(told, counted(len(adopted), "event"), adopted[0], extra={"action": "adopt_events"})
