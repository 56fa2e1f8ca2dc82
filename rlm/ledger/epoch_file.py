"""The epoch that a conductor has seen, on disk: the next conductor on this host must know of as many slots.

If the file cannot be replaced, it shows fewer slots than were taken, and an older state of Redis would seem complete.
So it is overwritten with an unknown number. That may fail too, on a read-only disk, or on a full one that copies on
write. Then the next conductor does not rely on the file while it cannot be written.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from rlm.core.clock import system_clock
from rlm.core.errors import UnsafeError
from rlm.core.files import claim_directory, overwrite_file, replace_file, require_own
from rlm.ledger.values import MICROSECONDS

#: Shortest time between two writes of the file, seconds. If the conductor and Redis die at the same moment, slots of
#: this time may be forgotten unnoticed.
SAVE_SECONDS = 0.1

#: An epoch born further ahead than this (seconds, as clocks may be set back), or with more slots, is impossible.
AHEAD_SECONDS = 366 * 86_400
MOST_SLOTS = 2**53
#: The number of slots if nobody knows it.
UNSURE: Final = -1

_FOLLOWS = (
    "if Redis and the scheduler both restart before this is repaired, nobody can tell whether Redis forgot calls, "
    "and every endpoint is held for its longest period before its next call"
)
#: The remedy for that.
REMEDY = "make room on its disk, or let the user of the scheduler write there"

log = logging.getLogger(__name__)


class Epoch(msgspec.Struct, frozen=True):
    """When it was `born` (microseconds of Redis time), its id, and the slots taken in it so far, or `UNSURE`."""

    born: int
    id: str
    slots: int


def is_sane(epoch: Epoch, now: float) -> bool:
    """Return whether an epoch is possible. An impossible one is neither used nor remembered."""
    return 0 < epoch.born <= (now + AHEAD_SECONDS) * MICROSECONDS and UNSURE <= epoch.slots < MOST_SLOTS


class EpochFile:
    """The file of one Redis. Disk errors stop nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved: Epoch | None = None
        self._saved_at = float("-inf")
        self._refused = False

    def claim(self) -> None:
        """Require that the directory belongs only to this user. `save` reports one that cannot be made or written.

        Raises:
            UnsafeError: it does not.
        """
        with suppress(OSError):
            claim_directory(self._path.parent)

    def read(self) -> Epoch | None:
        """Return what was saved, None if nothing can be read."""
        try:
            require_own(self._path.parent)
            found = msgspec.json.decode(self._path.read_bytes(), type=Epoch)
            return found if is_sane(found, system_clock.now()) else None
        except FileNotFoundError:
            return None
        except (OSError, UnsafeError, msgspec.DecodeError, UnicodeDecodeError) as error:
            told = "%s cannot be read, so a Redis that forgot slots while nobody conducted goes unnoticed: %s"
            extra = {"action": "read_epoch"}
            log.warning(told, self._path, error, extra=extra)
            return None

    def take_over(self) -> Epoch | None:
        """Return what the last conductor saved, without the number of slots if it may have been unable to save."""
        if found := self.read():
            self.save(found, at_once=True)
        return msgspec.structs.replace(found, slots=UNSURE) if found and self._refused else found

    def save(self, epoch: Epoch, *, at_once: bool = False) -> None:
        """Write it unless it is already written. Unless `at_once`, writes are at least `SAVE_SECONDS` apart."""
        now = system_clock.monotonic()
        if epoch == self._saved or (now - self._saved_at < SAVE_SECONDS and not at_once):
            return
        self._saved_at = now
        try:
            claim_directory(self._path.parent)
            replace_file(self._path, msgspec.json.encode(epoch))
        except (OSError, UnsafeError) as error:
            with suppress(OSError, UnsafeError):
                require_own(self._path.parent)
                overwrite_file(self._path, msgspec.json.encode(msgspec.structs.replace(epoch, slots=UNSURE)))
            if not self._refused:
                why, extra = getattr(error, "strerror", None) or error, {"action": "save_epoch"}
                log.warning("%s cannot be written (%s): %s; %s", self._path, why, _FOLLOWS, REMEDY, extra=extra)
            self._refused = True
        else:
            self._saved, self._refused = epoch, False
