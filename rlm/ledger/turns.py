"""The turns of lanes: a conductor releases calls; in a turn, a lane settles its completed event and claims the next.

A released call has a type, an endpoint and times. A lane claims the first event that waits for such a call. Every event
whose call succeeds goes this way, with one script per turn. The other outcomes are in events.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import msgspec

from rlm.core.endpoint import PROBE_SLACK_SECONDS, Endpoint, EventType
from rlm.core.trail import CallEnd, Heard
from rlm.ledger.claims import KEEP_SECONDS, Claim, Completion, LaneId, Turn
from rlm.ledger.connect import SERVER_ID, translating
from rlm.ledger.keys import Keys
from rlm.ledger.measures import read_expected
from rlm.ledger.recovery import POISON_DEATHS
from rlm.ledger.scripts import Part, ScriptReply
from rlm.ledger.values import MICROSECONDS
from rlm.ledger.ways import RECENT_SECONDS

#: The most endpoints that a lane tries for one event; each release names them, even if its type has more.
MOST_TRIED = 16


class Terms(msgspec.Struct, frozen=True):
    """The constant part of a type's calls to an endpoint: all that the scripts need to claim an event and take a slot.

    `endpoints` are those that such a call may use; `limited` names all limits there. `revision` is the run's, which the
    worker must have. Times are in microseconds. `windows` are those of the endpoint and its budget, with their rules.
    """

    type: str
    endpoint: str
    endpoints: list[str]
    limited: list[str]
    pending: str
    inflight: str
    lease: int
    probe: int
    windows: list[dict[str, Any]]
    revision: str = ""

    @classmethod
    def of(cls, kind: EventType, endpoint: Endpoint, keys: Keys, guard_seconds: float, revision: str = "") -> Terms:
        """Return the terms of a type's calls to one of its endpoints, with the limits in force."""
        windows: list[dict[str, Any]] = [
            {
                "id": one.window_id,
                "name": one.name,
                "limit": one.limit.text,
                "window": keys.window(one.window_id),
                "health": keys.health(one.window_id),
                "rules": [[rule.amount, _us(rule.seconds + guard_seconds)] for rule in one.limit.rules],
            }
            for one in (endpoint, endpoint.budget)
            if one is not None
        ]
        tried = [endpoint, *islice((one for one in kind.endpoints if one.name != endpoint.name), MOST_TRIED - 1)]
        names = [one.name for one in tried]
        limited = [*names, *sorted({one.budget.name for one in tried if one.budget})]
        probe_us = _us(endpoint.timeout_seconds + PROBE_SLACK_SECONDS)
        zsets = keys.pending(kind.name), keys.inflight(kind.name)
        lease_us = _us(kind.lease_seconds)
        return cls(kind.name, endpoint.name, names, limited, *zsets, lease_us, probe_us, windows, revision)


class Release(msgspec.Struct, frozen=True):
    """A call that a lane may make, for the first waiting event, on these `terms`. `run` is the id of the open run.

    Moments are in microseconds of Redis time: it is `void` if not taken by then, and the call must `begin` by then to
    be answered before the `deadline`. `call` is its expected duration.
    """

    run: str
    void: int
    begin: int
    deadline: int
    call: int
    of: Terms


def releases_in(raw: Iterable[bytes]) -> Iterator[Release]:
    """Yield the releases stored in Redis, without invalid entries."""
    for one in raw:
        with suppress(msgspec.DecodeError):
            yield msgspec.json.decode(one, type=Release)


def _us(seconds: float) -> int:
    return round(seconds * MICROSECONDS)


#: A release that no lane takes becomes void after this many seconds.
CLAIM_SECONDS = 1.0
#: The most calls released in one step; Lua cannot unpack 8,000 arguments.
MOST_RELEASED = 1000


class TurnReply(ScriptReply, frozen=True):
    """What `take_turn` answers, as in `Turn`; with an `event_id` a claim.

    Spans are in microseconds; `limits` and `expected` are names and values.
    """

    settled: bool
    why: str = ""
    probe: str = ""
    event_id: str = ""
    claims: int = 0
    type: str = ""
    endpoint: str = ""
    remaining_us: int = 0
    begin_us: int = 0
    call_us: int = 0
    lease_us: int = 0
    wallet: str = ""
    item: bytes = b""
    attempt: int = 0
    tries: int = 0
    runs: int = 0
    last: str = ""
    stamp: str = ""
    suspect: bool = False
    alone: bool = False
    limits: list[str] = msgspec.field(default_factory=list)
    expected: list[str] = msgspec.field(default_factory=list)

    def claim(self, lane: LaneId, run_id: str) -> Claim:
        """Return the claim of a lane."""
        return Claim(
            event_id=self.event_id,
            run_id=run_id,
            lane=lane,
            number=self.claims,
            endpoint=self.endpoint,
            remaining_seconds=self.remaining_us / MICROSECONDS,
            begin_seconds=self.begin_us / MICROSECONDS,
            call_seconds=self.call_us / MICROSECONDS,
            lease_seconds=self.lease_us / MICROSECONDS,
            wallet_name=self.wallet,
            item=self.item,
            attempt=self.attempt,
            tries=self.tries,
            runs=self.runs,
            last_endpoint=self.last,
            stamp=self.stamp,
            suspect=self.suspect,
            alone=self.alone,
            limits=dict(zip(self.limits[::2], self.limits[1::2], strict=True)),
            expected={
                (self.type, name): read_expected(times.encode())
                for name, times in zip(self.expected[::2], self.expected[1::2], strict=True)
            },
        )


class Turns(Part):
    """The released calls, and the turns of the lanes that make them."""

    def release(self, token: int, run_id: str, releases: Iterable[Release], first_at: float | None = None) -> int:
        """Release calls; return how many are released now, 0 once the run ends.

        `first_at`, in seconds since 1970, is noted with them as the run's first release unless it has one.
        """
        keys, encoded = self._keys, [msgspec.json.encode(release).decode() for release in releases]
        named: dict[str, Any] = {"lease": keys.lease, "current": keys.current, "releases": keys.releases}
        named |= {"run": keys.run(run_id), "token": token, "run_id": run_id}
        named["first_at"] = "" if first_at is None else repr(first_at)
        pieces = (encoded[at : at + MOST_RELEASED] for at in range(0, len(encoded), MOST_RELEASED))
        return int(self._run_each("release_calls", [{**named, "calls": piece} for piece in pieces])[-1])

    @translating
    def take(
        self,
        lane: LaneId,
        run_id: str,
        completed: Completion | None = None,
        reached: Iterable[str] = (),
        *,
        with_slot: bool = False,
    ) -> Turn:
        """Settle what the lane has `completed`, and claim its next event; `with_slot`, a first attempt has its slot.

        `reached` are the endpoints that a turn named for a probe and that the worker could connect to. Nothing is
        claimed without a `run_id`.

        Raises:
            StoreError: whether it was settled, and whether an event was claimed, is not known: see `held_by`.
        """
        keys, done = self._keys, completed.claim if completed else None
        settled_run = done.run_id if done else run_id
        reply = self._run(
            "take_turn",
            run=keys.run(run_id),
            releases=keys.releases,
            epoch=keys.epoch,
            limits=keys.limits,
            expected=keys.expected,
            calls=keys.calls(lane.worker_id),
            inflight=keys.inflight(done.type if done else ""),
            tally=keys.tally(settled_run),
            timings=keys.timings(settled_run),
            ways=keys.ways,
            well=keys.well(completed.window_id if completed else ""),
            hosts=keys.well_hosts,
            worker=lane.worker_id,
            lane=lane.note,
            run_id=run_id,
            revision=self._store.settings.revision,
            with_slot=int(with_slot),
            reached=dict.fromkeys(reached, True),
            keep_us=KEEP_SECONDS * MICROSECONDS,
            suspect=POISON_DEATHS - 1,
            family=keys.event(""),
            completed=_settling(completed) if completed else None,
            dedupe_ms=self._dedupe_ms,
            server=SERVER_ID,
        )
        turn = TurnReply.read(reply)
        claim = turn.claim(lane, run_id) if turn.event_id else None
        return Turn(turn.settled, claim, turn.why, turn.probe)

    def complete(self, completed: Completion) -> bool:
        """Settle an event as completed; return False if the claim was lost meanwhile."""
        return self.take(completed.claim.lane, "", completed=completed).settled

    @translating
    def releases(self) -> list[Release]:
        """Return the released calls, the next one first, without invalid entries."""
        return list(releases_in(self._ask("LRANGE", self._keys.releases, 0, -1)))


def _settling(completed: Completion) -> dict[str, Any]:
    """Return the event that a turn settles, as `take_turn` takes it."""
    claim = completed.claim
    entry = claim.entry(completed.endpoint, CallEnd.COMPLETED, Heard(completed.answer, completed.seconds))
    return {
        "event_id": claim.event_id,
        "claims": str(claim.number),
        "type": claim.type,
        "endpoint": completed.endpoint,
        "times": f"{completed.seconds * 1000:.1f} {completed.waited_seconds * 1000:.1f}",
        "idle_ms": f"{completed.idle_seconds * 1000:.1f}",
        "entry": entry.decode(),
        "recent_us": round(RECENT_SECONDS * MICROSECONDS) if completed.window_id else 0,
    }
