"""Whatever happens in whatever order, by lanes that lose answers, die, come late and repeat themselves.

After every step each event is in one place, no window has more calls than its rules allow, no call that may have been
sent is forgotten, and no lane is told to wait for longer than until a call could begin.
"""

from __future__ import annotations

import random

import pytest
from msgspec import structs

from rlm.core.endpoint import Limit, all_limited
from tests.turns.virtual import VirtualWorld
from tests.turns.world import (
    GUARD,
    LaneDouble,
    budget,
    completed,
    dead,
    endpoint,
    failed,
    kind,
    throttled,
    unconnected,
    unsent,
)
from tests.values import record_from

STEPS = 250
LIMITS = ("1 per 1 second", "3 per 0.5 seconds", "4 per 1 second; 9 per 5 seconds", "20 per 2 seconds")
FAR = 8_000_000_000_000_000


class Storm:
    """A world, its lanes, and what must be true of it."""

    def __init__(self, world: VirtualWorld, seed: int) -> None:
        self.world, self.draw = world, random.Random(seed)
        draw = self.draw
        budgets = [None, None, budget("one", draw.choice(LIMITS)), budget("two", draw.choice(LIMITS))]
        self.ends = [
            endpoint(f"e{number}", draw.choice(LIMITS), draw.choice(budgets), timeout=draw.choice((0.5, 3.0)))
            for number in range(6)
        ]
        self.types = [kind(f"T{number}", *draw.sample(self.ends, draw.randint(1, 4))) for number in range(4)]
        self.limited = {each.name: each for each in all_limited(self.ends)}
        for each in self.types:
            world.ready(each.name, 12, priority=draw.randint(0, 2))
        self.events = [f"i{number}:{each.name}" for each in self.types for number in range(1, 13)]
        self.lanes = [world.lane(n, f"{host}:{n}:w") for host in ("here", "there") for n in range(1, 4)]
        #: The last call that each lane knows of, and the last one of all lanes, for answers that come late.
        self.calls: dict[int, object] = {}
        self.known: dict[str, dict[str, int]] = {name: {} for name in self.limited}
        self.steps: list[str] = []
        world.publish(*self.types)
        self.open()

    def open(self) -> None:
        shares = {"shares": '[["T2", 0.3]]'} if self.draw.random() < 0.5 else {}
        self.world.open(self.draw.choice((5.0, 60.0)), **shares, **({"most": "1"} if self.draw.random() < 0.3 else {}))

    # Steps.

    def step(self) -> None:
        """Let something happen, and look at everything."""
        draw = self.draw
        if draw.random() < 0.6:
            spans = (1, 500, 5000, 20_000, 50_000, 50_000, 100_000, 300_000, draw.choice((1000, 3_000_000)))
            self.world.set(self.world.now_us + draw.choice(spans))
        usual = [self.turn] * 30
        what = draw.choice(
            [*usual, self.late, self.restamp, self.reap, self.pause, self.resume, self.limit, self.take, self.next_run]
        )
        self.steps.append(what.__name__)
        self.begun: set[str] = set()
        self.closes = what is self.next_run and draw.random() < 0.3
        gives_back = (what() if what is not self.next_run else None) or set()
        self.check(gives_back)
        if self.closes:
            self.next_run()
            self.check(set())

    def turn(self) -> set[str]:
        draw, lane = self.draw, self.draw.choice(self.lanes)
        last = self.calls.get(id(lane))
        how = draw.choice(["settle"] * 12 + ["leave", "leave", "repeat", "repeat", "old", "nothing", "nothing"])
        if how == "repeat" and lane.last is not None:
            self.heard(lane, lane.repeat())
            return self.given_back(lane, lane.last.settle)
        if how == "old" and lane.n > 1 and world_notes(self.world, lane):
            newest = lane.last
            assert lane.ask(last and completed(last), n=lane.n - 1).stale
            lane.n, lane.last = lane.n + 1, newest
            return set()
        settlement = None if last is None or how == "leave" else self.settlement(last)
        before = self.name_of(last)
        self.heard(lane, lane.ask(settlement, nothing=how == "nothing"))
        if settlement is None or not settlement.sent:
            return before
        return set()

    def settlement(self, call):
        draw = self.draw
        make = draw.choice([completed] * 6 + [failed] * 3 + [throttled, unconnected, unsent, unsent, unsent, dead])
        changes = {}
        if make in (failed, unconnected):
            changes = {"to": draw.choice(("backoff", "backoff", "spent")), "delay_us": draw.randint(0, 2_000_000)}
        if make is not unsent and draw.random() < 0.2:
            changes["counts_us"] = draw.randint(0, 500_000)
        return make(call, **changes)

    def heard(self, lane: LaneDouble, reply) -> None:
        """Note an answer, or lose it: then the lane repeats itself, or knows nothing."""
        if self.draw.random() < 0.1:
            reply = lane.repeat()
        self.calls[id(lane)] = reply.call
        self.begun = self.name_of(self.calls[id(lane)])
        if reply.wait is not None and reply.wait != 1000:
            self.check_wait(reply)
        if reply.close:
            self.closes = True
            due = self.world.client.zrange(self.world.keys.due, 0, -1)
            assert self.world.now_us > self.deadline or all(member.startswith(b"later ") for member in due)

    def late(self) -> set[str]:
        """An answer comes again, of a call that was settled already, or not."""
        calls = [call for call in self.calls.values() if call]
        if not calls:
            return set()
        call, lane = self.draw.choice(calls), self.draw.choice(self.lanes)
        mine = self.calls.get(id(lane))
        lane_has = self.world.event(call.event_id).get("owner", "").startswith(f"{lane.worker} {lane.number} ")
        settlement = self.settlement(call)
        reply = lane.ask(settlement, nothing=True)
        assert lane_has or not reply.settled
        self.calls[id(lane)] = None
        return self.name_of(mine) | (set() if settlement.sent or not lane_has else self.name_of(call))

    def restamp(self) -> None:
        lane = self.draw.choice(self.lanes)
        if call := self.calls.get(id(lane)):
            self.world.store.turns.restamp(call)

    def reap(self) -> None:
        self.world.store.ledger.reap(self.draw.choice(self.lanes).worker, died=self.draw.random() < 0.2)

    def pause(self) -> None:
        self.world.store.rules.pause(self.draw.choice(self.ends), "me", self.draw.choice((0.1, 2.0)))

    def resume(self) -> None:
        self.world.store.rules.resume(self.draw.choice(self.ends), "me")

    def limit(self) -> None:
        """Only by the same periods, because a longer one holds calls back until enough are known."""
        name = self.draw.choice(list(self.limited))
        limited = self.limited[name]
        amounts = [f"{self.draw.randint(1, 9)} per {rule.seconds:g} seconds" for rule in limited.limit.rules]
        self.world.store.rules.limit(limited, "; ".join(amounts), "me")
        changed = structs.replace(limited, limit=Limit.parse("; ".join(amounts)))
        self.limited[name] = changed
        if changed in self.ends or any(each.name == name for each in self.ends):
            self.ends = [
                structs.replace(each, limit=changed.limit) if each.name == name else each for each in self.ends
            ]
        else:
            self.ends = [
                structs.replace(each, budget=changed) if each.budget and each.budget.name == name else each
                for each in self.ends
            ]

    def take(self) -> None:
        self.world.store.windows.take(self.draw.choice(self.ends))

    def next_run(self) -> None:
        world = self.world
        assert world.store.runs.end(world.run.id, world.token)
        tally = world.tally()
        for each in self.types:
            left = world.client.zcard(world.keys.ready(each.name))
            settled = tally.get(f"completed:{each.name}", 0) + tally.get(f"failed:{each.name}", 0)
            assert tally[f"carried:{each.name}"] == left + settled, each.name
        assert (
            world.store.runs.close(world.run.id, record_from(run_id=world.run.id), world.store.runs.tally(), wanted=0)
            == 1
        )
        for each in self.types:
            world.ready(each.name, 3)
            first = world.events[each.name]
            self.events += [f"i{number}:{each.name}" for number in range(first - 2, first + 1)]
        self.open()

    # What must be true.

    @property
    def deadline(self) -> int:
        return int(self.world.client.hget(self.world.keys.run, "deadline_us") or 0)

    @staticmethod
    def name_of(call) -> set[str]:
        return {f"{call.event_id} {call.number}"} if call else set()

    def given_back(self, lane, settlement) -> set[str]:
        return {f"{settlement.event_id} {settlement.number}"} if settlement and not settlement.sent else set()

    def check(self, gives_back: set[str]) -> None:
        world, owners = self.world, []
        for event_id, places, owner in self.look():
            assert len(places) == 1, (event_id, places)
            assert bool(owner) == (places == ["inflight"]), (event_id, places, owner)
            owners += [owner] if owner else []
        assert len(owners) == len(set(owners)), owners
        now = world.now_us
        for name, limited in self.limited.items():
            found, known = world.slots(limited), self.known[name]
            longest = max(rule.seconds for rule in limited.limit.rules) + GUARD
            for call, at in known.items():
                if call not in found and at > now - longest * 1_000_000:
                    assert call in gives_back, (name, call, now - at)
                assert found.get(call, at) >= at, (name, call)
            self.known[name] = found
            taken = [call for call in found if call not in known and (call in self.begun or call.startswith("shared:"))]
            for rule in limited.limit.rules if taken else ():
                within = sum(at > now - round((rule.seconds + GUARD) * 1_000_000) for at in found.values())
                assert within <= rule.amount, (name, rule, within)

    def look(self):
        """Yield each event, in which places it is, and its owner."""
        keys = self.world.keys
        with self.world.client.pipeline() as pipeline:
            for event_id in self.events:
                pipeline.zscore(keys.ready(event_id.rpartition(":")[2]), event_id)
                pipeline.zscore(keys.due, event_id)
                pipeline.zscore(keys.due, f"later {event_id}")
                pipeline.hmget(keys.event(event_id), "wallet", "item", "owner")
            found = pipeline.execute()
        for place, event_id in enumerate(self.events):
            *scores, (wallet, item, owner) = found[4 * place : 4 * place + 4]
            places = [name for name, at in zip(("ready", "inflight", "backoff"), scores, strict=True) if at is not None]
            yield event_id, [*places, *(["settled"] if wallet and not item else [])], owner

    def opening(self, end) -> int:
        at = self.world.now_us
        for limited in all_limited([end]):
            health = self.world.health(limited)
            at = max(at, *(int(float(health.get(field, 0))) for field in ("rest", "probe", "pause", "known")))
            stamps = sorted(self.world.stamps(limited).values(), reverse=True)
            for rule in limited.limit.rules:
                if len(stamps) >= rule.amount:
                    at = max(at, stamps[rule.amount - 1] + round((rule.seconds + GUARD) * 1_000_000))
        return at

    def check_wait(self, reply) -> None:
        """A lane that waits is not told to wait for longer than until a call could begin."""
        world = self.world
        ends = {each.name: each for each in self.ends}
        moments = [self.deadline + 300_001]
        for each in self.types:
            if world.client.zcard(world.keys.ready(each.name)):
                need = round((each.processing_seconds + 0.02) * 1_000_000)
                opens = [self.opening(ends[end.name]) for end in each.endpoints]
                moments += [at for at in opens if at + need <= self.deadline]
        moments += [int(at) for _, at in world.client.zrange(world.keys.due, 0, 0, withscores=True) if at < FAR]
        assert min(moments) > reply.now, "a call could have begun"
        assert reply.now + reply.wait <= min(moments), "told to wait for too long"


def world_notes(world, lane) -> bool:
    """Return whether the number of the lane's last ask is known; a reap forgets it."""
    return bool(world.client.hexists(world.keys.held(lane.worker), str(lane.number)))


@pytest.mark.parametrize("seed", [*range(2), *(pytest.param(seed, marks=pytest.mark.rest) for seed in range(100, 110))])
def test_nothing_is_lost_or_exceeded_or_slept_through(store, monkeypatch, seed):
    storm = Storm(VirtualWorld(store, monkeypatch), seed)

    for _ in range(STEPS):
        try:
            storm.step()
        except AssertionError as error:
            error.add_note(f"after {len(storm.steps)} steps: {storm.steps[-12:]}")
            raise
