"""Data-loss detection: whether Redis has forgotten slots that were taken, and whether its clock has stepped.

Redis forgets slots if it comes back empty or in an older state. An epoch is a time in which it forgot nothing, with the
number of slots taken in it. The conductor keeps the newest number that it has seen, in memory and in a file. It vouches
for a server process only if that remembers at least as many.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from rlm.core.clock import system_clock
from rlm.ledger.connect import text, translating
from rlm.ledger.epoch_file import UNSURE, Epoch, EpochFile, is_sane
from rlm.ledger.scripts import Part, ScriptReply
from rlm.ledger.trouble import address
from rlm.ledger.values import MICROSECONDS, moment_of_us, reading, whole

if TYPE_CHECKING:
    from rlm.ledger.front import StoreFront

#: The two clocks may drift apart by this many seconds, plus this share of the time since. NTP slews a clock by half of
#: that (500 ppm, the kernel's bound). A faster drift counts as a step as soon as it adds up.
TOLERANCE_SECONDS = 0.005
TOLERANCE_SHARE = 0.001


class Continuity(StrEnum):
    """Whether the server that answers still knows every slot that was taken."""

    KEPT = "kept"
    RESTARTED = "restarted"
    NEW = "new"
    FORGOT = "forgot"
    UNKNOWN = "unknown"


class Vouched(ScriptReply, frozen=True):
    """What `vouch_server` answers: its verdict, the time of Redis, and by how much its clock was moved in total, us.

    `why` says why windows cannot be trusted, if a process found that out but could not hold the endpoints.
    """

    verdict: Continuity
    now_us: int
    shifted_us: int
    why: str = ""
    born: int = 0
    id: str = ""
    slots: int = 0


class Renewal(NamedTuple):
    """When windows were last found untrustworthy (seconds since 1970), and why."""

    at: float
    why: str


class Epochs(Part):
    """The epoch as Redis has it, and as this process knows it."""

    def __init__(self, store: StoreFront) -> None:
        super().__init__(store)
        database = self._client.connection_pool.connection_kwargs.get("db") or 0
        place = hashlib.sha256(f"{address(self._client)} {database} {self._keys.epoch}".encode()).hexdigest()[:12]
        self._file = EpochFile(store.settings.data_dir / f"epoch-{place}.json")
        self._known: Epoch | None = None
        self._conducted = False

    def claim(self) -> None:
        """Claim the directory of the file before the file is read or written; see `EpochFile.claim`."""
        self._file.claim()

    @property
    def _newest(self) -> Epoch | None:
        return self._known or self._file.read()

    @translating
    def vouch(self, token: int) -> Vouched:
        """Vouch for the server that answers, if it has forgotten nothing; otherwise workers get no slots from it."""
        known = self._known or self._file.take_over()
        seen = (known.born, known.id, known.slots) if known else (0, "", UNSURE)
        born, epoch_id, slots = seen
        vouched = Vouched.read(
            self._run(
                "vouch_server",
                lease=self._keys.lease,
                epoch=self._keys.epoch,
                token=token,
                born=born,
                id=epoch_id,
                slots=slots,
                new_id=secrets.token_hex(8),
            )
        )
        if vouched.verdict not in {Continuity.FORGOT, Continuity.UNKNOWN}:
            self._know(Epoch(vouched.born, vouched.id, vouched.slots))
        return vouched

    @translating
    def renew(self, token: int, why: str, *, underway_seconds: float = 0.0) -> None:
        """Begin a new epoch, in which each window is held for its longest period from now on.

        It is held `underway_seconds` longer, the longest time that a call under way may still take, because the
        forgotten slot of such a call would be blocked for a period from its end.
        """
        after, underway_us = known.born if (known := self._newest) else 0, round(underway_seconds * MICROSECONDS)
        keys, epoch_id = {"lease": self._keys.lease, "epoch": self._keys.epoch}, secrets.token_hex(8)
        born = self._run("renew_epoch", **keys, token=token, after=after, id=epoch_id, why=why, underway_us=underway_us)
        self._know(Epoch(born, epoch_id, 0))

    def shift(
        self, token: int, run_id: str, shift_us: int, why: str, *, healths: Sequence[str], moments: Sequence[str]
    ) -> int:
        """Move all future moments in `healths` and `moments`, see `Store.shift_stamps`."""
        keys = self._keys
        moved = self._run(
            "shift_stamps",
            lease=keys.lease,
            current=keys.current,
            run=keys.run(run_id),
            epoch=keys.epoch,
            releases=keys.releases,
            token=token,
            run_id=run_id,
            shift_us=shift_us,
            why=why,
            healths=list(healths),
            moments=list(moments),
        )
        return int(moved)

    @translating
    def watch(self) -> tuple[int, int]:
        """Remember the epoch of a vouched-for server without judging it, for a standby that may conduct later.

        Return the time of Redis, and by how much moments were ever moved with its clock, both in microseconds.
        """
        read = ("HMGET", self._keys.epoch, "born", "id", "slots", "shifted_us", "since", "server")
        commands = [("TIME",), read, ("INFO", "server")]
        (seconds, microseconds), fields, info = self._batch(commands, transaction=True)
        born, epoch_id, slots, shifted_us, since, server = fields
        if born and epoch_id and slots and server == info["run_id"].encode():
            seen, known = Epoch(whole(born), text(epoch_id), whole(slots)), self._newest
            if is_sane(seen, seconds) and (known is None or _follows(known, seen, renewed=bool(since))):
                self._known = seen  # not saved, because the conductor's file is newer
        return seconds * MICROSECONDS + microseconds, reading(whole, shifted_us, self._keys.epoch, 0)

    @translating
    def last_renewal(self) -> Renewal | None:
        """Return when and why windows were last found untrustworthy, or None."""
        since, why = self._ask("HMGET", self._keys.epoch, "since", "why")
        at = reading(moment_of_us, since, self._keys.epoch, None)
        return Renewal(at, text(why)) if at is not None and why else None

    def close(self) -> None:
        """Save what is known for the next conductor on this host, if this process conducted."""
        if self._known and self._conducted:
            self._file.save(self._known, at_once=True)

    def _know(self, epoch: Epoch) -> None:
        if not is_sane(epoch, system_clock.now()):
            raise ValueError(f"no epoch was born then, or has so many slots: {epoch}")
        self._known, self._conducted = epoch, True
        self._file.save(epoch)


def _follows(known: Epoch, seen: Epoch, *, renewed: bool) -> bool:
    """Return whether `seen` follows `known`: the same epoch with no fewer slots, or a later one that was renewed."""
    return seen.slots >= known.slots if seen.id == known.id else renewed and seen.born > known.born


class StepGuard:
    """Compares the clock of Redis with a clock of this machine that never steps."""

    def __init__(self) -> None:
        self._last: tuple[float, float, float] | None = None
        self._shifted_us = 0

    def check(self, asked_at: float, redis_us: int, shifted_us: int, answered_at: float) -> float:
        """Return by how many seconds the clock of Redis has stepped since the last look, 0 if it has not.

        The clock was read between `asked_at` and `answered_at` (seconds of the other clock), so the distance between
        the clocks lies in an interval. Disjoint intervals mean a step; a slow answer only widens its interval. A step
        is found again until it is followed: `shifted_us` is by how much future moments were ever moved.
        """
        redis, moved = (redis_us - shifted_us) / MICROSECONDS, (shifted_us - self._shifted_us) / MICROSECONDS
        seen = redis - answered_at, redis - asked_at
        step = self._apart(*seen, answered_at)
        if step and moved and not self._apart(seen[0] + moved, seen[1] + moved, answered_at):
            step, self._last = 0.0, None  # another process followed it, so it happened before the first look here
        if not step:
            # The intersection with what was seen before, so that a drifting clock adds up to a step.
            least, most = self._drifted(answered_at) if self._last else seen
            self._last = min(max(seen[0], least), most), max(min(seen[1], most), least), answered_at
            self._shifted_us = shifted_us
        return step

    def _apart(self, low: float, high: float, at: float) -> float:
        """Return how far an interval is beyond what was seen before, seconds, 0 if it is not."""
        if self._last is None:
            return 0.0
        least, most = self._drifted(at)
        if low > most + TOLERANCE_SECONDS:
            return low - most
        return high - least if high < least - TOLERANCE_SECONDS else 0.0

    def _drifted(self, at: float) -> tuple[float, float]:
        """Return the least and the most distance that the clocks may have now, from what was seen before."""
        least, most, seen_at = self._last or (0.0, 0.0, at)
        drift = TOLERANCE_SHARE * (at - seen_at)
        return least - drift, most + drift
