"""Notices when Redis has forgotten slots that were taken: it came back empty, or as it was a while ago.

An epoch is a time in which Redis forgot nothing, with the number of slots that were taken in it. The conductor keeps
what it has seen of it in memory and in a file, and vouches for a server process only where that remembers as much.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, cast

import msgspec

from rlm.core.clock import system_clock
from rlm.core.errors import UnsafeError
from rlm.core.files import opened_directory, read_own, replace_own
from rlm.ledger.connect import ESCAPED, address, translated
from rlm.ledger.scripts import Script

if TYPE_CHECKING:
    from pathlib import Path

    import redis

    from rlm.ledger.keys import Keys

#: How often what was seen is written to the file at most, seconds: slots of so long may be forgotten unseen where the
#: conductor dies in the same moment as Redis.
SAVE_SECONDS = 0.1

#: No epoch was born later than so long from now, seconds: a clock may have been set back since. Nor has any more slots.
AHEAD_SECONDS = 366 * 86_400
MOST_SLOTS = 2**53

_MICROSECONDS = 1_000_000

log = logging.getLogger(__name__)


class Verdict(StrEnum):
    """What vouching for a server comes to."""

    KEPT = "kept"
    RESTARTED = "restarted"
    NEW = "new"
    FORGOT = "forgot"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Epoch:
    """When it was `born` (microseconds of Redis time), its id, how many slots were taken in it so far."""

    born: int
    id: str
    slots: int


@dataclass(frozen=True, slots=True)
class Vouched:
    """What vouching came to; the time there, and by how much moments were ever moved with its clock (microseconds).

    `why` windows are not to be trusted, if somebody found that out and could not hold the endpoints.
    """

    verdict: Verdict
    now_us: int
    shifted_us: int
    why: str


@dataclass(frozen=True, slots=True)
class Renewal:
    """When windows could last not be trusted (seconds since 1970), and why."""

    at: float
    why: str


def _is_sane(epoch: Epoch, now: float) -> bool:
    """Return whether an epoch can be one; what cannot is not to be gone by, nor remembered."""
    return 0 < epoch.born <= (now + AHEAD_SECONDS) * _MICROSECONDS and 0 <= epoch.slots < MOST_SLOTS


class EpochFile:
    """What a conductor has seen of the epoch, for the next one on this host. Whatever the disk says, work goes on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved: Epoch | None = None
        self._saved_at = float("-inf")
        self._refused = False

    def claim(self) -> None:
        """See that the directory is this user's alone; that it cannot be made or written, `save` tells.

        Raises:
            UnsafeError: it is not.
        """
        with suppress(OSError), opened_directory(self._path.parent):
            pass

    def read(self) -> Epoch | None:
        """Return what was saved; None where there is nothing that can be read."""
        try:
            found = msgspec.json.decode(read_own(self._path), type=Epoch)
            return found if _is_sane(found, system_clock.now()) else None
        except FileNotFoundError:
            return None
        except (OSError, UnsafeError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning(
                "%s cannot be read, so a Redis that forgot slots while nobody conducted goes unnoticed: %s",
                self._path,
                error,
                extra={"action": "read_epoch"},
            )
            return None

    def save(self, epoch: Epoch, *, at_once: bool = False) -> None:
        """Write it, unless that was done, or another was a moment ago and this one need not be `at_once`."""
        now = system_clock.monotonic()
        if epoch == self._saved or (now - self._saved_at < SAVE_SECONDS and not at_once):
            return
        self._saved, self._saved_at = epoch, now
        try:
            replace_own(self._path, msgspec.json.encode(asdict(epoch)))
            self._refused = False
        except (OSError, UnsafeError) as error:
            if not self._refused:
                log.warning("%s cannot be written: %s", self._path, error, extra={"action": "save_epoch"})
            self._refused = True


class Epochs:
    """The epoch as Redis has it, and as this process knows it."""

    def __init__(self, client: redis.Redis, keys: Keys, data_dir: Path) -> None:
        self._client = client
        self._keys = keys
        database = client.connection_pool.connection_kwargs.get("db") or 0
        place = hashlib.sha256(f"{address(client)} {database} {keys.epoch}".encode()).hexdigest()[:12]
        self._file = EpochFile(data_dir / f"epoch-{place}.json")
        self._known: Epoch | None = None
        self._conducted = False
        self._vouch = Script("vouch_server")
        self._renew = Script("renew_epoch")

    def claim(self) -> None:
        """Claim the directory of the file, before anything is read of it or written.

        Raises:
            UnsafeError: another user made it, or could write to it.
        """
        self._file.claim()

    @translated()
    def vouch(self, token: int) -> Vouched:
        """Vouch for the server that answers, if it has forgotten nothing: only then do workers get slots from it.

        Raises FencedError for a `token` that is not the lease's, StoreError where Redis does not answer.
        """
        known = self._known or self._file.read()
        seen = (known.born, known.id, known.slots) if known else (0, "", 0)
        reply = self._vouch(self._client, [self._keys.lease, self._keys.epoch], [token, *seen, secrets.token_hex(8)])
        now_us, shifted_us, verdict, born, epoch_id, slots, why = reply
        if verdict not in {b"forgot", b"unknown"}:
            self._know(Epoch(int(born), epoch_id.decode(), int(slots)))
        return Vouched(
            Verdict(verdict.decode(errors=ESCAPED)), int(now_us), int(shifted_us), why.decode(errors=ESCAPED)
        )

    @translated()
    def renew(self, token: int, why: str, *, underway_seconds: float = 0.0) -> None:
        """Begin a new epoch, in which each window is held for its longest period from now, whatever that will be.

        They are held for `underway_seconds` more, which is how long a call under way may still get no answer: its slot
        would then be blocked for a period from its end, if anybody still knew of it.

        Raises FencedError for a `token` that is not the lease's.
        """
        known = self._known or self._file.read()
        reply = self._renew(
            self._client,
            [self._keys.lease, self._keys.epoch],
            [
                token,
                known.born if known else 0,
                secrets.token_hex(8),
                why,
                round(underway_seconds * _MICROSECONDS),
            ],
        )
        self._know(Epoch(int(reply[0]), reply[1].decode(errors=ESCAPED), 0))

    @translated()
    def watch(self) -> tuple[int, int]:
        """Remember what Redis has, without a verdict: a standby does, so that it knows when it has to conduct.

        Returns the time there, and by how much moments were ever moved with its clock, both in microseconds.
        """
        with translated(self._client):
            pipeline = self._client.pipeline(transaction=True)
            pipeline.time()
            pipeline.hmget(self._keys.epoch, ["born", "id", "slots", "shifted_us", "since"])
            (seconds, microseconds), (born, epoch_id, slots, shifted_us, since) = pipeline.execute()
        if born and epoch_id and slots:
            seen, known = (
                Epoch(int(born), epoch_id.decode(errors=ESCAPED), int(slots)),
                self._known or self._file.read(),
            )
            if _is_sane(seen, seconds) and (known is None or _follows(known, seen, renewed=bool(since))):
                self._known = seen  # the file is the conductor's, who has seen more by then
        return seconds * _MICROSECONDS + microseconds, int(shifted_us or 0)

    @translated()
    def last_renewal(self) -> Renewal | None:
        """Return when and why windows could last not be trusted, or None."""
        with translated(self._client):
            since, why = cast("list[bytes | None]", self._client.hmget(self._keys.epoch, ["since", "why"]))
        return Renewal(int(since) / _MICROSECONDS, why.decode(errors=ESCAPED)) if since and why else None

    def close(self) -> None:
        """Save what is known where this process conducted, for the next conductor of this host."""
        if self._known and self._conducted:
            self._file.save(self._known, at_once=True)

    def _know(self, epoch: Epoch) -> None:
        if not _is_sane(epoch, system_clock.now()):
            raise ValueError(f"no epoch was born then, or has so many slots: {epoch}")
        self._known, self._conducted = epoch, True
        self._file.save(epoch)


def _follows(known: Epoch, seen: Epoch, *, renewed: bool) -> bool:
    """Tell whether `seen` comes after `known`: more of the same, or one begun by somebody who knew that."""
    return seen.slots >= known.slots if seen.id == known.id else renewed and seen.born > known.born
