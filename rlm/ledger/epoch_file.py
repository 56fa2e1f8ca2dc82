"""What a conductor has seen of the epoch of Redis, on disk: the next one on this host must know of as many slots.

A file that cannot be written says of fewer slots than were taken, and an older state of Redis would pass for complete.
So it is overwritten with that nobody knows how many there are. Where that fails too, as on a disk that is read-only, or
full and one that copies what is overwritten, the next conductor does not rely on it as long as it cannot be written.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from rlm.core.clock import system_clock
from rlm.core.errors import UnsafeError
from rlm.core.files import is_own_directory, opened_directory, overwrite_own, read_own, replace_own
from rlm.ledger.connect import MICROSECONDS

#: Shortest time between two writes of the file, seconds. Slots of that time may be forgotten unnoticed if the
#: conductor dies at the same moment as Redis.
SAVE_SECONDS = 0.1

#: No epoch was born later than so long from now, seconds: a clock may have been set back since. Nor has any more slots.
AHEAD_SECONDS = 366 * 86_400
MOST_SLOTS = 2**53
#: The number of slots where nobody knows it.
UNSURE: Final = -1

_FOLLOWS = (
    "if Redis and the scheduler both start anew before that is mended, nobody can tell whether Redis forgot calls, "
    "and every endpoint is held for its longest period before its next call"
)
#: What to do about that.
REMEDY = "make room on its disk, or let the user of the scheduler write there"

log = logging.getLogger(__name__)


class Epoch(msgspec.Struct, frozen=True):
    """When it was `born` (microseconds of Redis time), its id, how many slots were taken in it so far, or `UNSURE`."""

    born: int
    id: str
    slots: int


def is_sane(epoch: Epoch, now: float) -> bool:
    """Return whether an epoch is possible. One that is not is neither used nor remembered."""
    return 0 < epoch.born <= (now + AHEAD_SECONDS) * MICROSECONDS and UNSURE <= epoch.slots < MOST_SLOTS


class EpochFile:
    """The file of one Redis. Trouble with the disk stops nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved: Epoch | None = None
        self._saved_at = float("-inf")
        self._refused = False

    def claim(self) -> None:
        """Require the directory to be this user's alone. `save` reports one that cannot be made or written.

        Raises:
            UnsafeError: it is not.
        """
        with suppress(OSError), opened_directory(self._path.parent):
            pass

    def read(self) -> Epoch | None:
        """Return what was saved; None if nothing can be read."""
        try:
            found = msgspec.json.decode(read_own(self._path), type=Epoch)
            return found if is_sane(found, system_clock.now()) else None
        except FileNotFoundError:
            return None
        except (OSError, UnsafeError, msgspec.DecodeError, UnicodeDecodeError) as error:
            told = "%s cannot be read, so a Redis that forgot slots while nobody conducted goes unnoticed: %s"
            extra = {"action": "read_epoch"}
            log.warning(told, self._path, error, extra=extra)
            return None

    def take_over(self) -> Epoch | None:
        """Return what the last conductor saved, without the number of slots if it may not have been able to."""
        if found := self.read():
            self.save(found, at_once=True)
        return msgspec.structs.replace(found, slots=UNSURE) if found and self._refused else found

    def save(self, epoch: Epoch, *, at_once: bool = False) -> None:
        """Write it unless it is written already. Unless `at_once`, it waits `SAVE_SECONDS` after the last time."""
        now = system_clock.monotonic()
        if epoch == self._saved or (now - self._saved_at < SAVE_SECONDS and not at_once):
            return
        self._saved_at = now
        try:
            replace_own(self._path, msgspec.json.encode(epoch))
        except (OSError, UnsafeError) as error:
            with suppress(OSError, UnsafeError):
                overwrite_own(self._path, msgspec.json.encode(msgspec.structs.replace(epoch, slots=UNSURE)))
            if not self._refused:
                why, extra = getattr(error, "strerror", None) or error, {"action": "save_epoch"}
                log.warning("%s cannot be written (%s): %s; %s", self._path, why, _FOLLOWS, REMEDY, extra=extra)
            self._refused = True
        else:
            self._saved, self._refused = epoch, False

    def doubt(self) -> str:
        """Return why a conductor of this user could not rely on the file, and what follows; empty if it could."""
        from rlm.core.writable import refusal_of  # noqa: PLC0415  # only `rlm doctor` needs what it imports

        directory = self._path.parent
        nearest = directory if os.path.lexists(directory) else directory.parent  # where it would be made
        if not is_own_directory(nearest):
            return ""
        if os.path.lexists(self._path) and (saved := self.read()) and saved.slots == UNSURE:
            return f"{self._path} could not be written as calls were made: {_FOLLOWS}"
        why = refusal_of(nearest)
        return f"{self._path} cannot be written ({why}): {_FOLLOWS}" if why else ""
