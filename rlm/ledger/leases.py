"""What schedulers share: the lease that makes one of them the leader, the last tick, and requests to start a run.

The lease has one holder at a time, and a fencing token that grows with each holder. It also says which server process
of Redis is trusted, and when and why Redis was last doubted: it may have forgotten calls, or its clock stepped. Every
endpoint is held for its longest period from then on, once (lua/doubt.lua).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import msgspec

from rlm.core.clock import system_clock
from rlm.ledger.connect import SERVER_ID, text, translating
from rlm.ledger.scripts import Part, ScriptReply
from rlm.ledger.values import MICROSECONDS, moment, moment_of_us, reading, whole
from rlm.settings import apart_of

if TYPE_CHECKING:
    from rlm.ledger.store import Store

#: How long the answer to a request is kept, milliseconds.
_REPLY_MS = 60_000
#: A scheduler with other types or URLs than those in force takes the lease once everybody that has these, and the
#: lease, have been gone for so long, seconds.
ALONE_SECONDS = 30.0
#: How the reason of a doubt begins if it is the clock of Redis (lua/doubt.lua).
STEPPED = "the clock of Redis stepped"


class Standing(ScriptReply, frozen=True):
    """The standing of a scheduler: the `token` of its lease (0 without one), and the lease's holder (empty if none).

    `why` says why Redis was doubted since the asker last heard the `epoch`, empty if it was not. If other types or URLs
    are in force and keep the lease from the asker, `apart_us` is for how long at least, and `other` a process that has
    them, empty if none lives.
    """

    token: int
    holder: str
    now_us: int
    epoch: str
    why: str = ""
    apart_us: int = 0
    other: str = ""


class Doubt(msgspec.Struct, frozen=True):
    """When Redis was last doubted (seconds since 1970 by its clock), and why."""

    at: float
    why: str


class Tenure(msgspec.Struct, frozen=True):
    """Who took the lease last and has not given it up, and the seconds left; negative once it has run out."""

    owner: str
    left_seconds: float


class Leases(Part):
    """Takes, renews and gives up the lease that allows a scheduler to conduct runs."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._apart = apart_of(store.settings.event_types)
        #: Why Redis was doubted since somebody took note of it here; empty if it was not.
        self.doubted = ""

    def acquire(self, owner: str, ttl_seconds: float) -> int:
        """Take or renew the lease for `ttl_seconds`; return its fencing token, 0 while another holds it."""
        return self.contend(owner, ttl_seconds).token

    def contend(self, owner: str, ttl_seconds: float) -> Standing:
        """Take or renew the lease like `acquire`; return also who holds it. Doubt Redis if there is a reason."""
        clock = self._store.clock
        (epoch, stepped_us), asked_at = clock.doubts, system_clock.monotonic()
        answer = self._run(
            "acquire_lease",
            prefix=self._keys.prefix,
            owner=owner,
            ttl_us=round(ttl_seconds * MICROSECONDS),
            epoch=epoch,
            stepped_us=stepped_us,
            expects_us=clock.expects_us() or 0,
            revision=self._store.settings.revision,
            apart=self._apart,
            alone_us=round(ALONE_SECONDS * MICROSECONDS),
            server=SERVER_ID,
        )
        standing = Standing.read(answer)
        clock.hear(asked_at, standing.now_us, system_clock.monotonic(), standing.epoch)
        self.doubted = standing.why or self.doubted
        return standing

    @translating
    def doubt(self) -> Doubt | None:
        """Return when and why Redis was last doubted; None if it never was."""
        since, why = self._ask("HMGET", self._keys.lease, "doubted_us", "doubt")
        at = reading(moment_of_us, since, self._keys.lease, None)
        return Doubt(at, text(why)) if at is not None and why else None

    def release(self, owner: str) -> bool:
        """Give the lease up; return False if it was no longer the owner's."""
        return bool(self._run("release_lease", lease=self._keys.lease, owner=owner))

    def note_end(self, run_id: str) -> None:
        """Record that everything that follows the end of the last closed run is done; do nothing for an earlier run."""
        self._run("note_end", lease=self._keys.lease, runs=self._keys.runs, run_id=run_id)

    @translating
    def last_end(self) -> str:
        """Return the last run that `note_end` recorded; empty if none is known."""
        return text(self._ask("HGET", self._keys.lease, "ended") or b"")

    def holder(self) -> str | None:
        """Return the process that holds an unexpired lease, or None."""
        tenure = self.tenure()
        return tenure.owner if tenure and tenure.left_seconds > 0 else None

    @translating
    def tenure(self) -> Tenure | None:
        """Return who took the lease last, even if it has expired; None if nobody has, or if it was given up."""
        asked = [("HMGET", self._keys.lease, "owner", "expires_us"), ("TIME",)]
        (owner, expires), (seconds, microseconds) = self._batch(asked)
        if owner is None or expires is None:
            return None
        left_us = reading(whole, expires, self._keys.lease, 0) - microseconds
        return Tenure(text(owner), left_us / MICROSECONDS - seconds)

    @translating
    def revision(self) -> str:
        """Return the revision of the configuration of who took the lease last; empty before the first."""
        return text(self._ask("HGET", self._keys.lease, "revision") or b"")

    @translating
    def token(self) -> int:
        """Return the newest fencing token, 0 before the first."""
        return reading(whole, self._ask("HGET", self._keys.lease, "token"), self._keys.lease, 0)


class Schedule(Part):
    """When schedulers last ticked, and the requests to start a run that they answer."""

    @translating
    def last_tick(self) -> float | None:
        """Return when the scheduler last ticked, seconds since 1970."""
        return reading(moment, self._ask("GET", self._keys.last_tick), self._keys.last_tick, None)

    def note_tick(self, at: float) -> None:
        """Record when the scheduler ticked, seconds since 1970."""
        self._ask("SET", self._keys.last_tick, repr(at))

    def request(self) -> str:
        """Ask the scheduler to start a run; return the request's id, for `reply` and `withdraw`."""
        request_id = secrets.token_hex(8)
        wake = ("PUBLISH", self._keys.wake("scheduler"), "request")
        self._batch([("LPUSH", self._keys.requests, request_id), wake])
        return request_id

    def next_request(self) -> str | None:
        """Return the oldest request to start a run, or None. It stays until answered, because its taker may die."""
        oldest = self._ask("LINDEX", self._keys.requests, -1)
        return text(oldest) if oldest else None

    def withdraw(self, request_id: str) -> bool:
        """Withdraw a request; return False if it has been answered."""
        return bool(self._ask("LREM", self._keys.requests, 1, request_id))

    def answer(self, request_id: str, reply: Mapping[str, Any]) -> None:
        """Answer a request: `{"run_id": ...}` of the run started, or `{"open": ...}` of the one under way."""
        keys, answer = self._keys, msgspec.json.encode(reply)
        done = [("SET", keys.reply(request_id), answer, "PX", _REPLY_MS), ("LREM", keys.requests, 1, request_id)]
        self._batch(done, transaction=True)

    def forget_reply(self, request_id: str) -> None:
        """Delete the answer to a request, which would otherwise stay for a minute."""
        self._ask("DEL", self._keys.reply(request_id))

    @translating
    def reply(self, request_id: str) -> dict[str, Any] | None:
        """Return the answer to a request, None while there is none."""
        raw = self._ask("GET", self._keys.reply(request_id))
        return None if raw is None else cast("dict[str, Any]", msgspec.json.decode(raw))
