"""A world for the script `turn`: endpoints and types as a test wants them, events, an open run, and lanes that ask.

A lane is a double: it asks with the numbers that a real one sends, and settles what the test says became of its call.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, cast

from msgspec import structs

from rlm.core.call import CallEnd, Expected, Pair
from rlm.core.endpoint import Budget, Endpoint, EventType, Limit, Limited
from rlm.core.run import Run, Trigger, new_run
from rlm.ledger.store import Store
from rlm.ledger.turns import Ask, Claim, Settlement, TurnReply

#: The revision of the configuration of the run and of all workers that do not say otherwise.
REVISION = "r1"
#: Added to every period, seconds.
GUARD = 0.05
#: A lane on a busy machine may be held up for so long between looking at its clock and asking, microseconds.
HELD_UP_US = 2_000_000
HOST = "here"
#: The priority of an event stands above these bits of its score.
PRIORITY_UNIT = 4_398_046_511_104


def endpoint(
    name: str, limit: str = "100 per 1 second", budget: Budget | None = None, timeout: float = 5.0
) -> Endpoint:
    """Return an endpoint."""
    return Endpoint(name, f"http://127.0.0.1:1/{name}", Limit.parse(limit), timeout, budget=budget)


def budget(name: str, limit: str) -> Budget:
    """Return a limit that endpoints share."""
    return Budget(name, Limit.parse(limit))


def kind(name: str, *endpoints: Endpoint, priority: int = 1, seconds: float = 0.01, share: float = 0.0) -> EventType:
    """Return a type; without endpoints it has one with its name in small letters."""
    return EventType(name, priority, seconds, endpoints or (endpoint(name.lower()),), share=share)


class World:
    """A ledger on a real server, with its leader's lease."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.keys = store.keys
        self.client = store.client
        self.token = store.leases.contend("leader", 600).token
        self.server = cast("str", self.client.info("server")["run_id"])
        self.client.hset(self.keys.lease, mapping={"server": self.server, "epoch": "1"})
        self.types: tuple[EventType, ...] = ()
        self.run: Run | None = None
        self.events: Counter[str] = Counter()

    @property
    def now(self) -> int:
        """The time of Redis, microseconds."""
        return self.store.now_us()

    @property
    def expected_now(self) -> int:
        """The time of Redis as lanes expect it, by the same clock."""
        return round(time.time() * 1_000_000)

    def publish(self, *types: EventType, expected: Mapping[Pair, Expected] = {}) -> None:
        """Publish the rules of types, in their order of use, and their endpoints."""
        self.types = types
        self.store.rules.publish(self.token, types, expected)

    def ready(self, name: str, number: int = 1, priority: int = 0) -> list[str]:
        """Let events of a type be ready; return their ids, in order of use."""
        ids = []
        for _ in range(number):
            self.events[name] += 1
            event_id, score = f"i{self.events[name]}:{name}", self.events.total() - priority * PRIORITY_UNIT
            fields = {"item": '{"id": "i"}', "wallet": "w", "score": score, "taken_at": repr(time.time())}
            self.client.hset(self.keys.event(event_id), mapping=cast("Any", fields))
            self.client.zadd(self.keys.ready(name), {event_id: score})
            ids.append(event_id)
        self.client.hincrby(self.keys.totals, f"taken:{name}", 0)
        self.client.hset(self.keys.lease, "sequence", self.events.total())
        return ids

    def open(self, window: float = 100.0, **fields: str) -> Run:
        """Open a run and let it run; `fields` are of its hash, such as `most`."""
        run = new_run(Trigger.MANUAL, self.store.now(), window, REVISION)
        assert self.store.runs.open(self.token, run, [each.name for each in self.types]) == run.id
        self.store.runs.start(self.token, run.id, **fields)
        self.client.hset(self.keys.run, "guard_us", HELD_UP_US)
        self.run = run
        return run

    def start(self, *types: EventType, window: float = 100.0, events: int = 5, **fields: str) -> World:
        """Publish types, let each have ready events, and open a run."""
        self.publish(*types)
        for each in types:
            self.ready(each.name, events)
        self.open(window, **fields)
        return self

    def lane(self, number: int = 1, worker: str = f"{HOST}:1:w") -> LaneDouble:
        """Return a lane."""
        return LaneDouble(self, worker, number)

    # What Redis has.

    def stamps(self, limited: Limited) -> dict[str, int]:
        """Return what counts in a window, `EVENT NUMBER` -> moment; the number is that among its claims there."""
        claims = sorted((name.rpartition(" ")[::2], at) for name, at in self.slots(limited).items())
        numbers: Counter[str] = Counter()
        stamps = {}
        for (event_id, _), at in claims:
            numbers[event_id] += 1
            stamps[f"{event_id} {numbers[event_id]}"] = at
        return stamps

    def slots(self, limited: Limited) -> dict[str, int]:
        """Return what counts in a window by its name there, `EVENT CLAIMS` -> moment."""
        found = self.client.zrange(self.keys.window(limited.window_id), 0, -1, withscores=True)
        return {name.decode(): int(at) for name, at in cast("list[tuple[bytes, float]]", found)}

    def health(self, limited: Limited) -> dict[str, str]:
        """Return what is known of an endpoint or a budget."""
        found = cast("dict[bytes, bytes]", self.client.hgetall(self.keys.endpoint(limited.window_id)))
        return {name.decode(): value.decode() for name, value in found.items()}

    def event(self, event_id: str) -> dict[str, str]:
        """Return an event's hash."""
        found = cast("dict[bytes, bytes]", self.client.hgetall(self.keys.event(event_id)))
        return {name.decode(): value.decode() for name, value in found.items()}

    def place(self, event_id: str) -> str:
        """Return where an event is; an event is in one place."""
        name = event_id.rpartition(":")[2]
        due = {"inflight": event_id, "backoff": f"later {event_id}"}
        found = ["ready"] if self.client.zscore(self.keys.ready(name), event_id) is not None else []
        found += [place for place, member in due.items() if self.client.zscore(self.keys.due, member) is not None]
        fields = self.event(event_id)
        settled = [] if not fields or "item" in fields else ["failed" if "letter" in fields else "completed"]
        places = [*found, *settled]
        assert len(places) <= 1, (event_id, places)
        return places[0] if places else "gone"

    def tally(self) -> dict[str, int]:
        """Return the counts of the run."""
        return self.store.runs.tally()

    def lease(self, name: str) -> str:
        """Return a field of the lease."""
        return cast("bytes", self.client.hget(self.keys.lease, name) or b"").decode()

    def age(self, *limited: Limited, seconds: float) -> None:
        """Let all calls of these windows be older by so many seconds, as if that had passed, and look at them again."""
        for each in limited:
            key = self.keys.window(each.window_id)
            for name, at in self.slots(each).items():
                self.client.zadd(key, {name: at - round(seconds * 1_000_000)})
        self.look_again()

    def look_again(self) -> None:
        """Let what is known of when endpoints are free be looked at again."""
        for each in self.types:
            free = self.keys.prefix + f"free:{each.name}"
            if members := self.client.zrange(free, 0, -1):
                self.client.zadd(free, dict.fromkeys(cast("list[bytes]", members), 0))
        if members := self.client.zrange(self.keys.prefix + "open", 0, -1):
            self.client.zadd(self.keys.prefix + "open", dict.fromkeys(cast("list[bytes]", members), 0))

    def free(self, name: str) -> dict[str, int]:
        """Return when each endpoint of a type may take its next call, by name, 0 for now."""
        found = self.client.zrange(self.keys.prefix + f"free:{name}", 0, -1, withscores=True)
        return {member.decode().partition(" ")[2]: int(at) for member, at in cast("list[tuple[bytes, float]]", found)}

    def woken(self) -> Woken:
        """Listen to what wakes lanes, from now on."""
        return Woken(self)


class Woken:
    """What woke the lanes since it was made."""

    def __init__(self, world: World) -> None:
        self.pubsub = world.client.pubsub()
        self.pubsub.subscribe(f"{world.keys.prefix}wake:workers")
        while (self.pubsub.get_message(timeout=1.0) or {}).get("type") != "subscribe":
            pass

    def read(self) -> list[str]:
        """Return why, in order."""
        found = []
        while message := self.pubsub.get_message(timeout=0.02):
            found.append(message["data"].decode())
        return found


class LaneDouble:
    """A lane: its asks are numbered."""

    def __init__(self, world: World, worker: str, number: int) -> None:
        self.world = world
        self.worker, self.number = worker, number
        self.n = 0
        self.epoch = "1"
        self.last: Ask | None = None

    def ask(self, settle: Settlement | None = None, **changes: Any) -> TurnReply:
        """Ask with the next number."""
        self.n = changes.pop("n", self.n + 1)
        expects = self.world.expected_now
        usual = Ask(self.worker, self.number, self.n, REVISION, self.epoch, expects, settle=settle)
        self.last = structs.replace(usual, **changes)
        return self.world.store.turns.take(self.last)

    def repeat(self) -> TurnReply:
        """Ask the same again, as after an answer was lost."""
        assert self.last is not None
        return self.world.store.turns.take(structs.replace(self.last, expects=self.world.expected_now))

    def call(self, settle: Settlement | None = None, **changes: Any) -> Claim:
        """Ask, and get a call."""
        reply = self.ask(settle, **changes)
        assert reply.call, reply
        return reply.call


def completed(call: Claim, **changes: Any) -> Settlement:
    """Return the settlement of a call that was answered well."""
    return _made(call, CallEnd.COMPLETED, **{"to": "completed", "health": "well", "tried": call.tried()} | changes)


def failed(call: Claim, **changes: Any) -> Settlement:
    """Return the settlement of a call that failed and is tried again."""
    usual = {"to": "backoff", "health": "failure", "kind": "HTTP 500"}
    tried = call.tried(spends_run=changes.get("to") == "spent")
    return _made(call, CallEnd.ERROR, **usual | {"tried": tried} | changes)


def throttled(call: Claim, asked: float = 1.0, **changes: Any) -> Settlement:
    """Return the settlement of a call whose endpoint asked for a rest."""
    usual = {"to": "ready", "health": "refusal", "kind": "HTTP 429", "asked_us": round(asked * 1_000_000)}
    return _made(call, CallEnd.THROTTLED, **usual | changes)


def unconnected(call: Claim, **changes: Any) -> Settlement:
    """Return the settlement of a call that could not connect."""
    usual = {"sent": False, "unconnected": True, "kind": "connection refused", "delay_us": 500_000}
    return failed(call, **usual | changes)


def unsent(call: Claim) -> Settlement:
    """Return the settlement of a call that was not made."""
    return Settlement(call.event_id, call.number, call.endpoint, call.stamp, "ready")


def dead(call: Claim, **changes: Any) -> Settlement:
    """Return the settlement of a call after which its event is a dead letter."""
    usual = {"to": "failed", "health": "well", "letter": json.dumps({"event": call.event_id})}
    return _made(call, CallEnd.REJECTED, **usual | changes)


def _made(call: Claim, finish: CallEnd, **fields: Any) -> Settlement:
    made = {"sent": True, "finish": finish, "took_ms": "10.0", "entry": '["x"]'}
    return Settlement(call.event_id, call.number, call.endpoint, call.stamp, **made | fields)


def most_within(moments: Iterable[int], seconds: float) -> int:
    """Return the most of these moments (microseconds) that lie within so many seconds."""
    ordered, span = sorted(moments), round(seconds * 1_000_000)
    first = most = 0
    for last, at in enumerate(ordered):
        while ordered[first] <= at - span:
            first += 1
        most = max(most, last - first + 1)
    return most
