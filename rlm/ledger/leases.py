"""What schedulers share: the lease that makes one of them the leader, the last tick, requests, noted conditions.

The lease has one holder at a time, and a fencing token that grows with each holder. It also says which server process
of Redis is trusted, and when and why Redis was last doubted: it may have forgotten calls, or its clock stepped. Every
endpoint is held for its longest period from then on, once (lua/endpoints.lua).
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from rlm.core.clock import system_clock
from rlm.core.endpoint import all_limited
from rlm.core.run import Run
from rlm.ledger.connect import SERVER_ID, text, translated
from rlm.ledger.processes import HEARTBEAT_TTL_SECONDS, Process, Processes, Register, Role
from rlm.ledger.rules import read_limits
from rlm.ledger.scripts import Access, Command, Part, ScriptReply
from rlm.ledger.values import MICROSECONDS, moment, moment_of_us, reading, us_of, whole
from rlm.settings import apart_of

if TYPE_CHECKING:
    from rlm.ledger.store import Store

#: A scheduler with other types or URLs than those in force takes the lease once everybody that has these, and the
#: lease, have been gone for so long, seconds.
ALONE_SECONDS = 30.0


class Standing(ScriptReply, frozen=True):
    """The standing of a scheduler: the `token` of its lease (0 without one), and the lease's holder (empty if none).

    `why` says why Redis was doubted since the asker last heard the `epoch`, empty if it was not.
    """

    token: int
    holder: str
    now_us: int
    epoch: str
    why: str = ""
    #: The digest of the types and URLs in force, empty if there are none yet. If they are others than the asker's: how
    #: long nobody has had the lease; for how long at least they keep it, and a process that has them, if one lives.
    apart: str = ""
    idle_us: int = 0
    apart_seconds: float = 0.0
    other: str = ""


class Lease(msgspec.Struct, frozen=True):
    """What the key `lease` says; times are seconds since 1970 by the clock of Redis.

    `owner`, of this `revision` of the configuration with types and URLs of the digest `apart`, took the lease last and
    has not given it up; `left_seconds` of it are left, negative once it has run out. A scheduler last ticked at
    `ticked_at`. All that follows the end of the run `ended` is done, which exceeded limits by `excess` calls. Redis was
    last doubted at `doubted_at`, and `doubt` says why; empty if it never was.
    """

    owner: str | None
    left_seconds: float
    revision: str
    apart: str
    ticked_at: float | None
    ended: str
    excess: Mapping[str, int]
    doubted_at: float
    doubt: str

    @property
    def holder(self) -> str | None:
        """The process that holds the lease, None if it has run out."""
        return self.owner if self.left_seconds > 0 else None


class Leases(Part):
    """Takes, renews and gives up the lease that allows a scheduler to conduct runs."""

    def __init__(self, store: Access) -> None:
        super().__init__(store)
        self._apart = apart_of(store.settings.event_types)
        #: The types and URLs in force, as last read; when a process was seen last that has others than this one, and
        #: when Redis was heard.
        self._in_force, self._seen_apart, self._heard_at = "", -math.inf, math.inf

    def contend(self, owner: str, ttl_seconds: float) -> Standing:
        """Take or renew the lease for `ttl_seconds`; return who holds it. Doubt Redis if there is a reason.

        Whoever has other types or URLs than those in force takes it only once all who have these are gone. As long as
        it remembers them it asks for no time at all, because a Redis that came back empty does not know of them. While
        Redis is not heard nobody can be seen.
        """
        now, is_apart = system_clock.monotonic(), self._in_force not in {"", self._apart}
        if is_apart and now > self._heard_at + HEARTBEAT_TTL_SECONDS:
            self._seen_apart = now
        is_aside = is_apart and now < self._seen_apart + ALONE_SECONDS
        standing = self._acquire(owner, 0.0 if is_aside else ttl_seconds)
        self._heard_at = system_clock.monotonic()
        if standing.token:
            self._in_force = self._apart
            return standing
        self._in_force = standing.apart or self._in_force
        if self._in_force in {"", self._apart}:
            return standing
        there = Processes(self._store).register().living(*Role)
        other = next((process.id for process in there if process.apart == self._in_force), "")
        if other:
            self._seen_apart = system_clock.monotonic()
        gone_seconds = min(standing.idle_us / MICROSECONDS, system_clock.monotonic() - self._seen_apart)
        if gone_seconds >= ALONE_SECONDS:
            return replace(self._acquire(owner, ttl_seconds, gone=self._in_force), why=standing.why)
        return replace(standing, apart_seconds=ALONE_SECONDS - max(0.0, gone_seconds), other=other)

    def _acquire(self, owner: str, ttl_seconds: float, gone: str = "") -> Standing:
        clock = self._store.clock
        (epoch, stepped_us), asked_at = clock.doubts, system_clock.monotonic()
        doubts = {"epoch": epoch, "stepped_us": stepped_us, "expects_us": clock.expects_us() or 0, "server": SERVER_ID}
        configuration = {"revision": self._store.settings.revision, "apart": self._apart, "gone": gone}
        reply = self._run("acquire_lease", owner=owner, ttl_us=us_of(ttl_seconds), **doubts, **configuration)
        standing = Standing.read(reply)
        clock.hear(asked_at, standing.now_us, system_clock.monotonic(), standing.epoch)
        return standing

    def release(self, owner: str) -> bool:
        """Give the lease up, so that a standby need not wait for its end; return False if it was not the owner's."""
        return self._acquire(owner, 0.0).holder == owner

    def note_end(self, run_id: str, excess: Mapping[str, int]) -> None:
        """Note that all is done that follows the end of a run, and by how many calls it exceeded which limits."""
        self._ask("HSET", self._keys.lease, "ended", run_id, "excess", msgspec.json.encode(excess))

    @translated()
    def read(self) -> Lease:
        """Read what the lease says."""
        fields, now_us = self._batch([("HGETALL", self._keys.lease), ("TIME",)])
        return self.lease_of(fields, now_us)

    def lease_of(self, fields: Mapping[bytes, bytes], now_us: int) -> Lease:
        """Return what the lease says by its hash and the time of Redis."""
        key = self._keys.lease
        names = ("owner", "revision", "apart", "ended", "doubt")
        words = {name: text(fields.get(name.encode(), b"")) for name in names}
        return Lease(
            owner=words.pop("owner") or None,
            left_seconds=(reading(whole, fields.get(b"expires_us"), key, 0) - now_us) / MICROSECONDS,
            ticked_at=reading(moment, fields.get(b"ticked_at"), key, None),
            excess=reading(msgspec.json.Decoder(dict[str, int]).decode, fields.get(b"excess"), key, {}),
            doubted_at=reading(moment_of_us, fields.get(b"doubted_us"), key, 0.0),
            **words,
        )


class Notes(Part):
    """Since when conditions last, as it was logged. A condition is named by its code and its subject, with a space."""

    @translated()
    def begun(self, fields: Mapping[bytes, bytes] | None = None) -> dict[str, float]:
        """Return the conditions whose begin was logged and whose end was not: since when each lasts, seconds."""
        key = self._keys.conditions
        fields = self._ask("HGETALL", key) if fields is None else fields
        return {text(name): reading(moment, raw, key, 0.0) for name, raw in fields.items() if name}

    def note(self, begun: Mapping[str, float], ended: Collection[str]) -> None:
        """Note which conditions have begun, and when, and which have ended. A Redis that takes no writes refuses it."""
        key, fields = self._keys.conditions, [part for name, at in begun.items() for part in (name, repr(at))]
        self._batch([("HSET", key, "", "", *fields), ("HDEL", key, "", *ended)])


class Reply(msgspec.Struct, frozen=True):
    """The answer to a request: the id of the run that was started, or of the one that is `open`."""

    run_id: str = ""
    open: str = ""


class Schedule(Part):
    """Requests to start a run, which schedulers answer, and when these last ticked.

    Requests and answers last a minute from the last of them, so none is left of an asker that died.
    """

    def note_tick(self, at: float) -> None:
        """Record that the scheduler ticked, seconds since 1970, without a run: only the fewest workers are wanted."""
        wanted = ("HSET", self._keys.processes, "wanted", self._store.settings.workers.min)
        self._batch([("HSET", self._keys.lease, "ticked_at", repr(at)), wanted])

    def request(self) -> str:
        """Ask the scheduler to start a run; return the request's id, which begins with the moment."""
        request_id = f"{self._store.now():017.6f}-{os.urandom(4).hex()}"
        self._write(request_id, b"")
        return request_id

    def next_request(self) -> str | None:
        """Return the oldest request to start a run, or None. It stays until answered, because its taker may die."""
        requests = self._ask("HGETALL", self._keys.requests)
        return min((text(name) for name, reply in requests.items() if not reply), default=None)

    def answer(self, request_id: str, reply: Reply) -> None:
        """Answer a request."""
        self._write(request_id, msgspec.json.encode(reply))

    def _write(self, request_id: str, reply: bytes) -> None:
        requests, wake = self._keys.requests, ("PUBLISH", self._keys.wake("scheduler"), "request")
        self._batch([("HSET", requests, request_id, reply), ("PEXPIRE", requests, 60_000), wake])

    def reply(self, request_id: str) -> Reply | None:
        """Return the answer to a request, None while there is none."""
        return _read_reply(self._ask("HGET", self._keys.requests, request_id))

    def withdraw(self, request_id: str) -> Reply | None:
        """Withdraw a request, or fetch its answer, if there is one by now."""
        named = self._keys.requests, request_id
        return _read_reply(self._batch([("HGET", *named), ("HDEL", *named)], transaction=True)[0])


def _read_reply(raw: bytes | None) -> Reply | None:
    return msgspec.json.decode(raw, type=Reply) if raw else None


class Present(Register, frozen=True):
    """What one round trip reads, in `answer_seconds`; `replies` are those to what else was asked, `limits` by name."""

    lease: Lease
    run: Run | None
    limits: Mapping[str, str]
    now_us: int
    answer_seconds: float
    replies: Sequence[Any]

    @property
    def deputy(self) -> str | None:
        """The supervisor that speaks for a leader while there is none: the oldest."""
        supervisors = self.living(Role.SUPERVISOR)
        return supervisors[0].id if supervisors and self.lease.holder is None else None

    @property
    def candidates(self) -> list[Process]:
        """The leading scheduler; if none leads, or a command conducts, all schedulers, because any may be next."""
        schedulers = self.living(Role.SCHEDULER)
        return [each for each in schedulers if each.id == self.lease.holder] or schedulers


def present(store: Store, *commands: Command) -> Present:
    """Read who is there and what is in force, and the replies to more `commands`, in one round trip."""
    limited, asked_at = all_limited(store.settings.endpoints.values()), system_clock.monotonic()
    usual = ("HGETALL", store.keys.lease), ("HGETALL", store.keys.run), store.rules.limits_command(limited)
    register, now_us, (lease, run, limits, *replies) = store.processes.register_and(*usual, *commands)
    took = system_clock.monotonic() - asked_at
    with store.guarded():
        led, opened, in_force = store.leases.lease_of(lease, now_us), store.runs.read(run), read_limits(limits, limited)
    return Present(register.entries, register.wanted, register.restarts, led, opened, in_force, now_us, took, replies)
