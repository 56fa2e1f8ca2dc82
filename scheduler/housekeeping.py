"""What a leader does between runs, in small steps, so that the next run never waits for it.

After a run it checks whether the promises were kept, and allows the embedded server to shorten its append-only file: a
deep drain forbids that, because the server forks for it, which holds up calls. The archivist moves what exceeds the
bounds of Redis to the archive. The janitor removes what processes left in Redis when they died. An open run needs
neither: leases expire, and other workers continue.

A supervisor that died is reported during a run too. By then the other hosts have its share of the workers
(rlm/processes/sharing.py).

Archivist and janitor raise FencedError if another scheduler leads, because it may have a run open. They log errors of
Redis.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress

from actors.broker import WakingBroker
from rlm import telemetry
from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock, timestamp
from rlm.core.documents import Record
from rlm.core.errors import ArchiveError, FencedError, StoreError, StoreGarbledError
from rlm.delivery.run_record import look_over
from rlm.ledger import Store
from rlm.ledger.archive import Archive, ArchiveKind
from rlm.ledger.processes import HEARTBEAT_TTL_SECONDS, Role
from rlm.processes.sharing import Peers
from scheduler.leader import Leader

#: Seconds of archiving right after a run; the rest follows when there is nothing else to do.
AFTER_RUN_SECONDS = 0.1
#: Pause after a failed write to the archive, seconds; each failure is logged.
REFUSED_SECONDS = 60.0
#: Pause after a failure of Redis, seconds.
AWAY_SECONDS = 1.0

#: Seconds between two looks of the janitor.
LOOK_SECONDS = 5.0
#: The roles whose dead processes it removes.
ROLES = (Role.WORKER, Role.SCHEDULER, Role.SUPERVISOR)
#: The most processes to clean up after at one look, so that no run waits for it.
MOST_AT_ONCE = 50

log = logging.getLogger(__name__)


class Housekeeper:
    """Inspects closed runs, archives what exceeds the bounds of Redis, and removes what dead processes left there."""

    def __init__(self, store: Store, broker: WakingBroker, leader: Leader) -> None:
        self._archivist = Archivist(store, leader)
        self._janitor = Janitor(store, broker, leader)
        self._store = store

    def see_to(self, closed: Iterable[Record], patience_seconds: float = 0.0) -> bool:
        """Do the steps after `closed` runs, unless `look_over` has noted that they are done.

        Return False if another process closed one overdue within the last `patience_seconds`: it may be at them.
        """
        for record in closed:
            if record.run_id == self._store.leases.last_end():
                continue
            with suppress(StoreGarbledError), self._store.guarded():  # a record may hold anything, and runs go on
                age_seconds = self._store.now() - timestamp(record.finished_at) if record.overdue else -1
                if 0 <= age_seconds < patience_seconds:
                    return False
                telemetry.run_ended(self._store.settings, None, record)
                self.after_run(record)
        return True

    def after_run(self, record: Record | None) -> None:
        """Do a little work after a run; `record` is None if it is no longer kept, or if another looks it over."""
        if record is not None:
            look_over(self._store, record)
        self._archivist.work()
        self._janitor.step()

    def step(self) -> bool:
        """Do one step when there is nothing else to do; return whether there is more."""
        self._janitor.step()
        return self._archivist.step()


class Archivist:
    """Moves run records beyond `run.history` and dead letters beyond their two bounds to the archive, in chunks.

    Each step carries the lease's token, so a deposed conductor removes nothing.
    """

    def __init__(self, store: Store, leader: Leader) -> None:
        self._store = store
        self._leader = leader
        self._archive = Archive(store.settings.archive_dir)
        self._due = True
        self._not_before = float("-inf")

    def work(self, seconds: float = AFTER_RUN_SECONDS) -> None:
        """Archive for about `seconds` after a run."""
        self._due = True
        until = system_clock.monotonic() + seconds
        while self.step() and system_clock.monotonic() < until:
            continue

    def step(self) -> bool:
        """Move a chunk; return whether there may be more. Without more nothing is due until the next run ends."""
        if not self._due or system_clock.monotonic() < self._not_before:
            return False
        try:
            self._due = self._move_records() or self._move_letters()
        except FencedError:
            raise
        except StoreError as error:
            self._not_before = system_clock.monotonic() + AWAY_SECONDS
            log.info("Nothing can be archived while Redis fails: %s", error, extra={"action": "archive"})
            return False
        except ArchiveError as error:
            self._not_before = system_clock.monotonic() + REFUSED_SECONDS
            told = (
                "Run records and dead letters stay in Redis, because they cannot be archived: %s; trying again in "
                "%.0f s"
            )
            extra = alarm(Alarm.NO_ARCHIVE, "archive")
            log.error(told, error, REFUSED_SECONDS, extra=extra)  # noqa: TRY400  # the message contains the cause
            return False
        return self._due

    def _move_records(self) -> bool:
        surplus = self._store.runs.surplus(self._store.settings.run.history)
        if records := [record for record in surplus.values() if record != b"null"]:
            self._archive.append(ArchiveKind.RECORDS, records, system_clock.now())
        return bool(surplus) and self._store.runs.trim(self._leader.token, list(surplus)) > 0

    def _move_letters(self) -> bool:
        queue, letters, token = self._store.settings.queue, self._store.letters, self._leader.token
        giant, surplus = letters.surplus(token, queue.failed_max, queue.failed_max_bytes)
        if giant:
            self._archive.append_giant(ArchiveKind.FAILED, letters.pieces(giant), system_clock.now())
            letters.trim_giant(token, giant)
        if surplus:
            self._archive.append(ArchiveKind.FAILED, surplus, system_clock.now())
        trimmed = letters.trim(token, surplus) if surplus else 0
        return bool(giant) or trimmed > 0


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

    def __init__(self, store: Store, broker: WakingBroker, leader: Leader) -> None:
        self._store = store
        self._broker = broker
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
        self._store.recovery.orphan_worker(process_id)
        self._broker.forget(process_id)
        self._store.processes.forget(Role.WORKER, process_id)
        told = "Worker %s is gone, and its supervisor with it; nothing of it is left in Redis"
        extra = {"action": "forget_worker"}
        log.info(told, process_id, extra=extra)

    def _is_restored(self, since: float) -> bool:
        """Return whether Redis came back older or empty after a process, missing `since` then, was last heard from."""
        renewal, missing_seconds = self._store.epochs.last_renewal(), system_clock.monotonic() - since
        not_heard_seconds = missing_seconds + LOOK_SECONDS + HEARTBEAT_TTL_SECONDS
        return renewal is not None and self._store.now() - renewal.at <= not_heard_seconds


class SupervisorWatch:
    """Follows the supervisors of an installation for one scheduler."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._peers = Peers(store)

    def look(self, *, aloud: bool) -> bool:
        """Note who lives; if `aloud`, report those that died. Return whether there are other hosts."""
        found = self._peers.look()
        for name in self._peers.died if aloud else ():
            report_death(self._store, Role.SUPERVISOR, name)
        # A silent host counts while its entry lasts, so that its death is reported as soon as it does not.
        hosts = {one.host for one in (*self._peers.living, *filter(None, found.values()))}
        return bool(hosts - {self._store.settings.host_name})
