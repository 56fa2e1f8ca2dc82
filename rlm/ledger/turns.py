"""The turns of lanes: a conductor releases calls; in a turn, a lane settles its completed event and claims the next.

A released call has a type, an endpoint and times. A lane claims the first event that waits for such a call. Every event
whose call succeeds goes this way, with one script per turn. The other outcomes are in events.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import msgspec

from rlm.core.endpoint import PROBE_SLACK_SECONDS, Endpoint, EventType
from rlm.core.expected import Expected, Pair
from rlm.core.trail import CallEnd, Heard
from rlm.ledger.claims import KEEP_SECONDS, Claim, Completion, LaneId, Turn
from rlm.ledger.connect import MICROSECONDS, SERVER_ID, text, translating
from rlm.ledger.keys import Keys
from rlm.ledger.measures import read_expected
from rlm.ledger.recovery import POISON_DEATHS
from rlm.ledger.scripts import Argument, Part
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


class Turns(Part):
    """The released calls, and the turns of the lanes that make them."""

    def release(self, token: int, run_id: str, releases: Iterable[Release], first_at: float | None = None) -> int:
        """Release calls; return how many are released now, 0 once the run ends.

        `first_at`, in seconds since 1970, is noted with them as the run's first release unless it has one.
        """
        keys, encoded = self._keys, [msgspec.json.encode(one) for one in releases]
        names = [keys.lease, keys.current, keys.releases, keys.run(run_id)]
        args: list[Argument] = [token, run_id, "" if first_at is None else repr(first_at)]
        pieces = (encoded[at : at + MOST_RELEASED] for at in range(0, len(encoded), MOST_RELEASED))
        return int(self._run_each("release_calls", [(names, [*args, *piece]) for piece in pieces])[-1])

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
        """Settle what the lane has `completed`, and claim its next event, if possible `with_slot`.

        `reached` are the endpoints that a turn named for a probe and that the worker could connect to. Nothing is
        claimed without a `run_id`.

        Raises:
            StoreError: whether it was settled, and whether an event was claimed, is not known: see `held_by`.
        """
        keys, done = self._keys, completed.claim if completed else None
        settled_run = done.run_id if done else run_id
        names = [keys.run(run_id), keys.releases, keys.epoch, keys.limits, keys.expected, keys.calls(lane.worker_id)]
        names += [keys.event(""), keys.inflight(done.type if done else "")]
        names += [keys.tally(settled_run), keys.timings(settled_run), keys.ways]
        names += [keys.well(completed.window_id if completed else ""), keys.well_hosts]
        args: list[Argument] = [lane.worker_id, lane.note, run_id, self._store.settings.revision]
        args += [int(with_slot), KEEP_SECONDS * MICROSECONDS, POISON_DEATHS - 1]
        args += [*_completion_args(completed), self._dedupe_ms, f" {' '.join(reached)} "]
        args += [round(RECENT_SECONDS * MICROSECONDS) if completed and completed.window_id else 0, SERVER_ID]
        settled, why, *claimed = self._run("take_turn", names, args)
        if not claimed:
            return Turn(bool(settled), None, text(why))
        if text(why) == "probe":
            return Turn(bool(settled), None, "probe", text(claimed[0]))
        return Turn(bool(settled), _read_claim(lane, run_id, claimed))

    def complete(self, completed: Completion) -> bool:
        """Settle an event as completed; return False if the claim was lost meanwhile."""
        return self.take(completed.claim.lane, "", completed=completed).settled

    @translating
    def releases(self) -> list[Release]:
        """Return the released calls, the next one first, without invalid entries."""
        return list(releases_in(self._ask("LRANGE", self._keys.releases, 0, -1)))


def _read_claim(lane: LaneId, run_id: str, claimed: Sequence[Any]) -> Claim:
    event_id, number, name, endpoint, stamp, suspect, alone, *spans, wallet, item = claimed[:13]
    attempt, tries, runs, last, *told = claimed[13:]
    limits, expected = _read_told(text(name), told, with_slot=bool(stamp))
    left, begins, lasts, lease = (int(us) / MICROSECONDS for us in spans)
    begun = (text(event_id), run_id, lane, int(number), text(endpoint), left, begins, lasts, lease)
    history, slot = (int(attempt), int(tries), int(runs), text(last)), (text(stamp), bool(suspect), bool(alone))
    return Claim(*begun, text(wallet), item, *history, *slot, limits, expected)


def _read_told(kind: str, told: Sequence[Any], *, with_slot: bool) -> tuple[dict[str, str], dict[Pair, Expected]]:
    """Return the limits and a type's expected times that come with a claim."""
    if with_slot:
        return _pairs(told), {}
    number, *told = told
    published, limits = told[: 2 * number], told[2 * number :]
    expected = zip(published[::2], published[1::2], strict=True)
    return _pairs(limits), {(kind, text(name)): read_expected(raw) for name, raw in expected if raw}


def _pairs(told: Sequence[bytes]) -> dict[str, str]:
    return {text(name): text(value) for name, value in zip(told[::2], told[1::2], strict=True) if value}


def _completion_args(completed: Completion | None) -> list[Argument]:
    if completed is None:
        return [""] * 7
    claim = completed.claim
    times = f"{completed.seconds * 1000:.1f} {completed.waited_seconds * 1000:.1f}"
    entry = claim.entry(completed.endpoint, CallEnd.COMPLETED, Heard(completed.answer, completed.seconds))
    idle_ms = f"{completed.idle_seconds * 1000:.1f}"
    return [claim.event_id, claim.number, claim.type, completed.endpoint, times, idle_ms, entry]
