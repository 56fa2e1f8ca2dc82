"""The turns of lanes: by one script, `lua/turn.lua`, a lane settles its call and gets the next one with its slot."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from rlm.core.call import CallEnd
from rlm.core.item import type_of
from rlm.ledger.connect import SERVER_ID, translated
from rlm.ledger.scripts import Part, ScriptReply


class Claim(msgspec.Struct, frozen=True):
    """A call that a lane may make: an event and a slot at an endpoint, taken at `stamp` (microseconds of Redis time).

    `number` is the moment of the claim, which no other claim of the event has, `attempt` its attempts in all runs,
    `tries` those in this run, `runs` in how many runs it spent all of them. The call takes about `call_us`; it must
    begin `need_us` before `deadline_us`.
    """

    event_id: str
    number: int
    endpoint: str
    stamp: int
    run_id: str
    deadline_us: int
    call_us: int
    need_us: int
    wallet_name: str
    attempt: int
    tries: int
    runs: int
    worker_id: str
    item: bytes = b""

    @property
    def type(self) -> str:
        """The name of the event's type."""
        return type_of(self.event_id)

    def tried(self, *, spends_run: bool = False) -> str:
        """Return what its event keeps of its attempts, with this one; `spends_run`: it is the last one in its run."""
        return f"{self.attempt + 1} {self.runs + spends_run} {self.tries + 1} {self.run_id} {self.endpoint}"


class Settlement(msgspec.Struct, frozen=True, omit_defaults=True):
    """What becomes of a claim. Spans are in microseconds."""

    event_id: str
    number: int
    endpoint: str
    stamp: int
    to: str  #: where the event goes: completed, failed, ready, backoff or spent
    sent: bool = False  #: it was, or may have been sent; otherwise its slot is given back
    finish: CallEnd | None = None  #: how it ended, for the log and the trail; None if no call was made
    health: str = ""  #: "well": the endpoint answered as it should; or its "failure" or "refusal"
    asked_us: int = 0  #: the rest that it asked for; negative: as long as its shortest period
    unconnected: bool = False  #: no connection could be opened
    counts_us: int | None = None  #: how long ago the slot must count from, because the API may have read it so late
    delay_us: int = 0  #: of a back-off
    tried: str | None = None  #: `Claim.tried`, if an attempt was spent
    kind: str = ""  #: the trouble that is counted, in a few words
    took_ms: str = ""
    entry: str = ""  #: its entry in the trail, JSON
    letter: str = ""  #: of a failed event, JSON


class Ask(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a lane asks, with the `n`th ask of its own. Moments and spans are in microseconds."""

    worker: str  #: its name begins with its host
    lane: int
    n: int
    revision: str  #: of the worker's configuration
    epoch: str = ""  #: of the lease, as the asker knows it
    expects: int | None = None  #: the time of Redis that it expects now
    stepped: int = 0  #: by how much it has seen that clock step
    nothing: bool = False  #: it wants no call
    settle: Settlement | None = None  #: the call that it has made


class TurnReply(ScriptReply, frozen=True):
    """What `turn` answers: a call, or one of those below it. Spans and moments are in microseconds of Redis time."""

    now: int
    settled: bool = True  #: False: the claim was no longer the lane's
    opened: int = 0  #: the rest that a failure began
    rested: int = 0  #: the rest that a refusal began
    reopened: bool = False  #: the endpoint answers again
    elsewhere: bool = False  #: another host reached it just now
    call: Claim | None = None
    wait: int | None = None  #: until it makes sense to ask again
    close: str = ""  #: the run in which nothing more can be done
    over: bool = False  #: no run is running
    outdated: bool = False  #: the run has another configuration
    epoch: str = ""  #: ask again with this one
    clock: bool = False  #: measure the clock, and ask again
    stale: bool = False  #: the lane has asked later than this
    nothing: bool = False  #: as asked


class Turns(Part):
    """The turns of lanes."""

    @translated()
    def take(self, ask: Ask) -> TurnReply:
        """Settle what a lane has made, and give it the next call.

        Raises:
            StoreError: what became of it is not known; ask again with the same number.
        """
        named = {"failed": self._keys.failed, "dedupe_ms": self._dedupe_ms}
        packed, *item = self._run("turn", ask=ask, **named, server=SERVER_ID)
        reply = TurnReply.read(packed)
        return reply if reply.call is None else replace(reply, call=replace(reply.call, item=item[0]))

    def restamp(self, claim: Claim) -> int:
        """Let the slot of a call count from now, because it leaves only now; return that moment, 0 if it is not owned.

        The number of a claim tells whether the event is still its lane's.
        """
        return int(self._run("restamp", event_id=claim.event_id, claims=claim.number, endpoint=claim.endpoint))
