"""What a leader does between runs, a step at a time, so that the next run never waits for it.

After a run it looks whether its promises were kept. The archivist moves what is more than Redis is to keep to the
archive. The janitor removes what processes left there that died without signing off. While a run is open that does no
harm: leases run out, and other workers go on.

In mid-run too it names the hosts that are lost, once, and says when they are back. A host is lost if none of its
supervisors and schedulers is heard of for a heartbeat's life, and one did not sign off; its share of the workers is the
others' by then (rlm/processes/sharing.py).

Archivist and janitor raise FencedError once another scheduler leads, which may have a run open; they log trouble with
Redis.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from actors.broker import WakingBroker
from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.errors import ArchiveError, FencedError, StoreError
from rlm.core.text import span
from rlm.delivery.run_record import look_over
from rlm.ledger import Store
from rlm.ledger.archive import Archive, ArchiveKind
from rlm.ledger.claims import host_of
from rlm.ledger.processes import HEARTBEAT_TTL_SECONDS, Role
from rlm.processes.sharing import Peers
from scheduler.leader import Leader

#: How long is archived right after a run, seconds; the rest is done while there is nothing else to do.
AFTER_RUN_SECONDS = 0.1
#: Pause after the archive could not be written, seconds: so often that is logged.
REFUSED_SECONDS = 60.0
#: Pause after Redis failed, seconds.
AWAY_SECONDS = 1.0

#: How often the janitor looks, seconds.
LOOK_SECONDS = 5.0
#: Whose death it looks for.
ROLES = (Role.WORKER, Role.SCHEDULER, Role.SUPERVISOR)
#: The most processes that it cleans up after at one look, so that no run has to wait for it.
MOST_AT_ONCE = 50
#: A host that has been lost for so long is forgotten, seconds.
FORGET_SECONDS = 86_400.0

log = logging.getLogger(__name__)


class Housekeeper:
    """Inspects a run, archives what is more than Redis is to keep, and removes what the dead left there."""

    def __init__(self, store: Store, broker: WakingBroker, leader: Leader) -> None:
        self._archivist = Archivist(store, leader)
        self._janitor = Janitor(store, broker, leader)
        self._store = store

    def after_run(self, record: Mapping[str, Any] | None) -> None:
        """Do a little, right after a run was closed; `record` is None if that is no longer kept."""
        if record is not None and not record.get("overdue"):  # else whoever closed it has looked
            look_over(self._store, record)
        self._archivist.work()
        self._janitor.step()

    def step(self) -> bool:
        """Do a step while there is nothing else to do; return whether to go on."""
        self._janitor.step()
        return self._archivist.step()


class Archivist:
    """Moves run records beyond `run.history` and dead letters beyond their two bounds, a chunk at a time.

    Each step carries the lease's token, so that a deposed conductor removes nothing.
    """

    def __init__(self, store: Store, leader: Leader) -> None:
        self._store = store
        self._leader = leader
        self._archive = Archive(store.settings.archive_dir)
        self._due = True
        self._not_before = float("-inf")

    def work(self, seconds: float = AFTER_RUN_SECONDS) -> None:
        """Move what a run has added, for about `seconds`."""
        self._due = True
        until = system_clock.monotonic() + seconds
        while self.step() and system_clock.monotonic() < until:
            continue

    def step(self) -> bool:
        """Move a chunk; return whether there was one. After none there is no other until a run has ended."""
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
            told = "Run records and dead letters stay in Redis, for they cannot be archived: %s; tried again in %.0f s"
            extra = alarm(Alarm.NO_ARCHIVE, "archive")
            log.error(told, error, REFUSED_SECONDS, extra=extra)  # noqa: TRY400  # the message says it all
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
    """Take a dead scheduler or supervisor off the register, and raise the alarm."""
    store.processes.forget(role, process_id)
    told = "The %s %s has not been heard of, and never signed off: it, or its host, died"
    extra = alarm(Alarm.PROCESS_DIED, "forget_process")
    log.warning(told, role, process_id, extra=extra)


class Janitor:
    """Forgets processes that were not heard of for long, workers for longer than any lease lasts; only between runs.

    Redis does not show since when a worker is missing, so only a process that has looked for so long can tell.
    """

    def __init__(self, store: Store, broker: WakingBroker, leader: Leader) -> None:
        self._store = store
        self._broker = broker
        self._leader = leader
        self._grace_seconds = HEARTBEAT_TTL_SECONDS + max(one.lease_seconds for one in store.settings.event_types)
        self._missed: dict[tuple[Role, str], float] = {}
        self._looked_at = float("-inf")

    def step(self) -> None:
        """Look now and then who is missing, and clean up after those who stay so. No run may be open."""
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
            log.info("What the dead left cannot be removed yet: %s", error, extra={"action": "forget_worker"})

    def _patience_seconds(self, role: Role) -> float:
        """Return how long one is missing before it is dead. After Redis was away all are missing for a heartbeat."""
        return self._grace_seconds if role is Role.WORKER else HEARTBEAT_TTL_SECONDS

    def _forget(self, role: Role, process_id: str) -> None:
        if role is Role.SUPERVISOR and unheard(self._store, [process_id]):
            report_lost(self._store, host_of(process_id))  # it stays in the register, for its host to be named
            return
        if role is not Role.WORKER and self._is_restored(self._missed[role, process_id]):
            self._store.processes.forget(role, process_id)
            told = (
                "The %s %s has not been heard of since Redis came back in another state: it may have signed off before"
            )
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
        """Return whether a process missing `since` then was not heard of after Redis came back older, or empty."""
        renewal, missing_seconds = self._store.epochs.last_renewal(), system_clock.monotonic() - since
        not_heard_seconds = missing_seconds + LOOK_SECONDS + HEARTBEAT_TTL_SECONDS
        return renewal is not None and self._store.now() - renewal.at <= not_heard_seconds


def unheard(store: Store, missing: Iterable[str]) -> set[str]:
    """Return the hosts of which nothing is heard, neither supervisor nor scheduler, among those of `missing` ones."""
    hosts = {host_of(one) for one in missing}
    if not hosts:
        return set()
    return hosts - {one.host for role in (Role.SUPERVISOR, Role.SCHEDULER) for one in store.processes.alive(role)}


def report_lost(store: Store, host: str) -> None:
    """Name a host that is lost, and raise the alarm, unless somebody has."""
    if store.hosts.lose(host):
        told = "Host %s is lost: nothing of it is heard of, and it did not sign off; the others have its share"
        extra = alarm(Alarm.HOST_LOST, "lose_host", host=host)
        log.warning(told, host, extra=extra)


class HostWatch:
    """Follows the hosts of an installation for one scheduler."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._peers = Peers(store)
        self._began_at = system_clock.monotonic()
        self._lost = True  #: as far as it knows there are some that are lost

    def look(self, *, aloud: bool) -> bool:
        """Note who lives; name who is lost or is back, if `aloud`. Return whether there are other hosts to follow."""
        found = self._peers.look()
        living = {one.host for one in self._peers.living}
        missing = [name for name, one in found.items() if one is None]
        if aloud and (missing or self._lost) and system_clock.monotonic() - self._began_at > HEARTBEAT_TTL_SECONDS:
            silent = unheard(self._store, missing)
            for host in sorted(silent - living):
                report_lost(self._store, host)
            self._see_back(silent)
        # One that is silent is still in the register: as soon as it is not, it is named.
        return bool((living | {one.host for one in found.values() if one}) - {self._store.settings.host_name})

    def _see_back(self, silent: set[str]) -> None:
        """Take note of those that are back, and of those that are not expected back any more."""
        for host, seconds in self._store.hosts.lost().items():
            if host not in silent:
                self._store.hosts.forget(host)
                log.info("Host %s is back, after %s", host, span(seconds), extra={"action": "find_host"})
            elif seconds > FORGET_SECONDS:
                self._store.hosts.forget(host)
                log.info("Host %s has been lost for a day, and is forgotten", host, extra={"action": "forget_host"})
        self._lost = bool(self._store.hosts.lost())
