"""The archivist: what is more than Redis is to keep goes to the archive, and leaves Redis only when it is there."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.errors import ArchiveError, FencedError, StoreError
from rlm.ledger.archive import Archive, ArchiveKind

if TYPE_CHECKING:
    from rlm.ledger import Store
    from scheduler.leader import Leader

#: How long it works after a run before the next may start, seconds; the rest is done while there is nothing else to do.
AFTER_RUN_SECONDS = 0.1
#: How long it leaves an archive alone that cannot be written, seconds: so often that is logged.
REFUSED_SECONDS = 60.0

#: How long it leaves Redis alone that failed, seconds.
AWAY_SECONDS = 1.0

log = logging.getLogger(__name__)


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
        """Move what a run has added, for about `seconds`.

        Raises:
            FencedError: another scheduler conducts by now.
        """
        self._due = True
        until = system_clock.monotonic() + seconds
        while self.step() and system_clock.monotonic() < until:
            continue

    def step(self) -> bool:
        """Move a chunk; return whether there was one. Once there was none, a run must end before there may be another.

        Raises:
            FencedError: another scheduler conducts by now.
        """
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
            log.error(  # noqa: TRY400  # the message says it all
                "Run records and dead letters stay in Redis, for they cannot be archived: %s; tried again in %.0f s",
                error,
                REFUSED_SECONDS,
                extra=alarm(Alarm.NO_ARCHIVE, "archive"),
            )
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
