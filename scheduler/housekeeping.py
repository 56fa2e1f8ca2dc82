"""What a leader does between runs, in small steps, so that the next run never waits for it.

After a run it checks whether the promises were kept, and archives dead letters of which Redis keeps no more. The
janitor removes what processes left in Redis when they died. An open run needs neither: leases expire, and other workers
continue. Events that are in no set of the ledger are looked for slowly, and put back.

Both raise FencedError if another scheduler leads, because it may have a run open. They log errors of Redis.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress

from rlm import telemetry
from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock, timestamp
from rlm.core.documents import Record
from rlm.core.errors import FencedError, StoreError, StoreGarbledError
from rlm.core.text import counted
from rlm.delivery.run_record import look_over
from rlm.ledger import Store
from rlm.ledger.processes import HEARTBEAT_TTL_SECONDS, Role
from rlm.ledger.strays import Strays
from scheduler.leader import Leader

#: Seconds between two looks of the janitor.
LOOK_SECONDS = 5.0
#: The roles whose dead processes it removes.
ROLES = (Role.WORKER, Role.SCHEDULER, Role.SUPERVISOR)
#: The most processes to clean up after at one look, so that no run waits for it.
MOST_AT_ONCE = 50

log = logging.getLogger(__name__)


class Housekeeper:
    """Inspects closed runs, archives dead letters, and removes what dead processes left in Redis."""

    def __init__(self, store: Store, leader: Leader) -> None:
        self._leader = leader
        self._janitor = Janitor(store, leader)
        self._strays = Strays(store)
        self._store = store

    def see_to(self, closed: Iterable[Record], patience_seconds: float = 0.0) -> bool:
        """Do the steps after `closed` runs, unless `look_over` has noted that they are done.

        Return False if another process closed one within the last `patience_seconds`: it may be at them.
        """
        for record in closed:
            if record.run_id == self._store.leases.last_end():
                continue
            with suppress(StoreGarbledError), self._store.guarded():  # a record may hold anything, and runs go on
                age_seconds = self._store.now() - timestamp(record.finished_at)
                if 0 <= age_seconds < patience_seconds:
                    return False
                telemetry.run_ended(self._store.settings, None, record)
                self.after_run(record)
        return True

    def after_run(self, record: Record | None) -> None:
        """Do a little work after a run; `record` is None if it is no longer kept, or if another looks it over."""
        if record is not None:
            look_over(self._store, record)
        self._strays.look_soon()
        self._archive()
        self._janitor.step()

    def step(self) -> bool:
        """Do one step when there is nothing else to do; return whether there is more."""
        self._janitor.step()
        self._find_strays()
        return self._archive()

    def _find_strays(self) -> None:
        """Look at some events; put back those that are in no set of the ledger."""
        try:
            found = self._strays.step()
        except StoreError as error:
            log.info("Events cannot be looked at while Redis fails: %s", error, extra={"action": "adopt_events"})
            return
        if found:
            told = "Put back %s in no set of the ledger, such as %s: a key was deleted, or writes were lost"
            log.warning(told, counted(len(found), "event"), found[0], extra={"action": "adopt_events"})

    def _archive(self) -> bool:
        """Move some dead letters to the archive, if Redis has too many; return whether there may be more."""
        try:
            return self._store.archivist.step(self._leader.token)
        except FencedError:
            raise
        except StoreError as error:
            log.info("No dead letters can be archived while Redis fails: %s", error, extra={"action": "archive"})
            return False


def report_death(store: Store, role: Role, process_id: str) -> None:
    """Remove a dead scheduler or supervisor from the register, and raise the alarm."""
    store.processes.forget(role, process_id)
    told = "The %s %s has not been heard from, and never signed off: it, or its host, died"
    extra = alarm(Alarm.PROCESS_DIED, "forget_process")
    log.warning(told, role, process_id, extra=extra)


class Janitor:
    """Removes processes that were missing for long, workers only after any lease has expired; only between runs.

    Redis does not record since when a worker is missing, so the janitor measures that itself.
    """

    def __init__(self, store: Store, leader: Leader) -> None:
        self._store = store
        self._leader = leader
        self._grace_seconds = HEARTBEAT_TTL_SECONDS + max(one.lease_seconds for one in store.settings.event_types)
        self._missed: dict[tuple[Role, str], float] = {}
        self._looked_at = float("-inf")

    def step(self) -> None:
        """If a look is due, clean up after processes that are missing for too long. No run may be open."""
        now = system_clock.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        try:
            self._missed = {one: self._missed.get(one, now) for one in self._store.processes.missing_of(*ROLES)}
            overdue = [one for one, since in self._missed.items() if now - since >= self._patience_seconds(one[0])]
            for role, process_id in overdue[:MOST_AT_ONCE]:
                self._leader.keep()
                self._forget(role, process_id)
        except FencedError:
            raise
        except StoreError as error:
            log.info("What dead processes left cannot be removed yet: %s", error, extra={"action": "forget_worker"})

    def _patience_seconds(self, role: Role) -> float:
        """Return after how many seconds a missing process is dead. After an outage of Redis all are missing briefly."""
        return self._grace_seconds if role is Role.WORKER else HEARTBEAT_TTL_SECONDS

    def _forget(self, role: Role, process_id: str) -> None:
        if role is not Role.WORKER and self._is_restored(self._missed[role, process_id]):
            self._store.processes.forget(role, process_id)
            told = "The %s %s has not been heard from since Redis came back with another state; it may have signed off"
            log.info(told, role, process_id, extra={"action": "forget_process"})
            return
        if role is not Role.WORKER:
            report_death(self._store, role, process_id)
            return
        self._store.recovery.reap(process_id)
        self._store.processes.forget(Role.WORKER, process_id)
        told = "Worker %s is gone, and its supervisor with it; nothing of it is left in Redis"
        extra = {"action": "forget_worker"}
        log.info(told, process_id, extra=extra)

    def _is_restored(self, since: float) -> bool:
        """Return whether Redis came back older or empty after a process, missing `since` then, was last heard from."""
        doubt, missing_seconds = self._store.leases.doubt(), system_clock.monotonic() - since
        not_heard_seconds = missing_seconds + LOOK_SECONDS + HEARTBEAT_TTL_SECONDS
        return doubt is not None and self._store.now() - doubt.at <= not_heard_seconds
