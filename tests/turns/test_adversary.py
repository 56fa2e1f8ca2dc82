"""What an adversary of the engine has found: lost keys, forgotten events, huge windows, limits set at any moment."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, defaultdict
from contextlib import closing
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from rlm.core.run import make_record
from rlm.ledger import Store
from rlm.ledger.rules import EndpointRules
from scheduler.forecast import Forecaster
from tests.turns.world import (
    GUARD,
    LaneDouble,
    World,
    budget,
    completed,
    dead,
    endpoint,
    failed,
    kind,
    most_within,
    throttled,
    unconnected,
    unsent,
)


def fill(world, limited, number, seconds_ago):
    """Let a window have so many calls."""
    key, at = world.keys.window(limited.window_id), world.now - round(seconds_ago * 1_000_000)
    for first in range(0, number, 5000):
        world.client.zadd(key, {f"old{n}:A {n}": at - n for n in range(first, min(first + 5000, number))})


def commands(world, name):
    """Return how often a command has run, in scripts too."""
    stats = cast("dict[str, dict[str, int]]", world.client.info("commandstats"))
    return stats.get(f"cmdstat_{name}", {}).get("calls", 0)


def test_an_event_that_was_forgotten_and_comes_again_counts_anew(world):
    """With `queue.dedupe_seconds = 0`, or after its letter was retried, its earlier call still counts."""
    own = endpoint("a", "2 per 10 second")
    world.start(kind("A", own), events=1)
    lane = world.lane()
    first = lane.call()
    lane.ask(completed(first), dedupe_ms=0)
    world._events.clear()
    assert world.ready("A", 2)[0] == first.event
    world.publish(*world.types)

    second = lane.call()

    assert second.event == first.event
    assert len(world.stamps(own)) == 2
    assert lane.ask(completed(second)).wait


def test_a_late_answer_for_a_forgotten_event_settles_nothing_of_its_next_claim(world):
    """Redis was emptied while a lane called; the event came again, and the same lane got it."""
    world.start(kind("A"), events=1)
    lane = world.lane()
    first = lane.call()
    world.client.delete(world.keys.event(first.event), world.keys.held(lane.worker), world.keys.inflight)
    world._events.clear()
    world.ready("A")
    world.publish(*world.types)
    second = lane.call(n=1)
    assert second.event == first.event

    assert not lane.ask(completed(first), nothing=True, n=2).settled


def test_a_program_with_a_shorter_rule_forgets_no_call(world):
    own = endpoint("a", "3 per 10 second")
    world.start(kind("A", own))
    fill(world, own, 3, 2.0)

    world.store.windows.take(endpoint("a", "1 per 1 second"))
    world.store.windows.take(endpoint("a", "1 per 1 second"))

    assert len(world.stamps(own)) == 4
    world.look_again()
    assert world.lane().ask().wait


def test_what_a_budget_has_counted_is_brought_in_once_and_not_at_each_publication(world):
    """With 100 endpoints and 100,000 calls a minute Redis stood still for half a minute."""
    shared = budget("acct", "100000 per 1 minute")
    alone, together = endpoint("a"), endpoint("a", budget=shared)
    world.publish(kind("A", alone))
    fill(world, alone, 3, 1.0)
    world.publish(kind("A", together))
    assert len(world.stamps(shared)) == 3

    unions = commands(world, "zunionstore")
    world.publish(kind("A", together))

    assert commands(world, "zunionstore") == unions


def test_a_window_of_many_calls_is_trimmed_a_thousand_at_a_time(world):
    own = endpoint("a", "2500 per 1 second")
    world.start(kind("A", own))
    fill(world, own, 2500, 5.0)

    sizes = []
    for number in range(1, 4):
        world.lane(number).call()
        sizes.append(len(world.stamps(own)))

    assert sizes[0] == 1501
    assert sizes[2] <= 1503  # fewer than the limit harm nobody


def test_without_the_index_of_open_types_the_run_goes_on(world):
    world.start(kind("A"), kind("B"))
    world.client.delete(world.keys.open)

    lane = world.lane()
    if not (reply := lane.ask()).event:
        assert reply.wait is not None
        reply = lane.call()

    assert not world.store.runs.end(world.run.id)


def test_a_conductor_that_published_the_limit_before_takes_up_the_one_set_by_hand(world):
    """It had read the limits just before they were changed, and published what was to be expected just after."""
    before, by_hand = endpoint("a", "5 per 1 second"), endpoint("a", "2 per 1 second")
    run = world.start(kind("A", before)).run
    forecaster = Forecaster(world.store, world.token, run, world.types, None)
    forecaster.measure(world.types)
    world.store.rules.limit(by_hand, GUARD)
    world.store.rules.publish(world.token, world.types, {})

    forecaster.measure((kind("A", by_hand),))

    entry = msgspec.json.decode(world.client.hget(world.keys.rules, "a"), type=EndpointRules)
    assert entry.windows[0].rules == [[2, round((1 + GUARD) * 1_000_000)]]


def test_a_record_balances_though_its_tally_was_deleted(world):
    world.start(kind("A"), events=3)
    lane = world.lane()
    call = lane.call()
    world.client.delete(world.keys.tally)
    lane.ask(completed(call), nothing=True)

    counts = make_record(world.run, world.tally(), ["A"], finished_at=0.0, restarted=0).counts

    assert (counts.taken, counts.completed, counts.leftover) == (1, 1, 0)


#: The limits of a crowd's endpoints, and what three of them share.
LIMITS = {"a": (3, 0.3), "s": (4, 0.4), "b": (5, 1.0), "b2": (2, 0.1), "c": (3, 0.2)}
SHARED = (6, 0.5)


class Crowd:
    """Lanes in threads that do anything at any moment, an operator, and a conductor that ends runs and opens others."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.seed = world, seed
        self.budget = budget("acct", "6 per 0.5 second")
        made = {
            name: endpoint(name, f"{amount} per {seconds} second", self.budget if name in "abc" else None, 0.3)
            for name, (amount, seconds) in LIMITS.items()
        }
        self.twice = made["s"]
        self.types = (
            kind("A", made["a"], self.twice, priority=3, seconds=0.001),
            kind("B", made["b"], self.twice, made["b2"], priority=2, seconds=0.001),
            kind("C", made["c"], seconds=0.001, share=0.2 if seed % 2 else 0.0),
        )
        self.fields = {"shares": '[["C", 0.2]]'} if seed % 2 else {"most": "1"}
        self.arrivals: defaultdict[str, list[float]] = defaultdict(list)
        self.settled: Counter[str] = Counter()
        self.faults: list[str] = []
        self.over = threading.Event()

    def play(self, seconds: float) -> None:
        self.world.start(*self.types, window=2.5, events=300, **self.fields)
        threads = [threading.Thread(target=self._guarded, args=(self._lane, number)) for number in range(1, 7)]
        threads.append(threading.Thread(target=self._guarded, args=(self._order, 0)))
        for thread in threads:
            thread.start()
        self.over.wait(seconds)
        self.over.set()
        for thread in threads:
            thread.join()

    def _guarded(self, role, number):
        settings = self.world.store.settings
        try:
            with closing(Store(settings, settings.redis.url)) as store:
                role(store, number, random.Random(100 * self.seed + number))
        except Exception as error:  # noqa: BLE001  # the test shows it
            self.faults.append(repr(error))
            self.over.set()

    def _lane(self, store, number, chance):
        me = SimpleNamespace(store=store, expected_now=0)
        worker, lives = f"h{number % 2}:{number % 3}:w", 0
        lane, settlement = LaneDouble(me, worker, number, worker[:2]), None
        while not self.over.is_set():
            asked_at = time.time()
            me.expected_now = self.world.expected_now
            reply = lane.ask(settlement, expects=me.expected_now)
            if settlement is not None and settlement.to in {"completed", "failed"} and reply.settled:
                self.settled[f"{settlement.event} {settlement.claims}"] += 1
            if chance.random() < 0.1:
                reply = store.turns.take(msgspec.structs.replace(lane.last, expects=self.world.expected_now))
            settlement = None
            if reply.event:
                if chance.random() < 0.05:
                    lane.n += 1  # the next ask settles nothing, so this call is given back
                    continue
                settlement, dies = self._call(store, lane, reply, asked_at, chance)
                if dies:
                    lives += 1
                    lane, settlement = LaneDouble(me, worker, number + 100 * lives, worker[:2]), None
                    if chance.random() < 0.5:
                        store.recovery.reap(worker, died=False)
            elif reply.close:
                store.runs.end(reply.close)
                self.over.wait(0.01)
            else:
                self.over.wait(min((reply.wait or 5000) / 1_000_000, 0.05))

    def _call(self, store, lane, reply, asked_at, chance):
        """Make a call; return what becomes of it, and whether its lane dies in the middle."""
        if time.time() - asked_at > 0.4 * GUARD:
            asked_at = time.time()
            if chance.random() < 0.5 or not store.turns.restamp(reply.claim(lane.worker), lane.number).owned:
                return unsent(reply), False
        if time.time() - asked_at > 0.4 * GUARD or (draw := chance.random()) < 0.1:
            return unsent(reply), False
        if draw < 0.15:
            return unconnected(reply), False
        self.arrivals[reply.endpoint].append(time.time())
        if draw < 0.2:
            return None, True
        self.over.wait(chance.choice([0.001, 0.01]))
        ends = [
            dead(reply),
            throttled(reply, 0.05),
            failed(reply, to="spent"),
            failed(reply, delay_us=1000, counts_us=0),
        ]
        return (chance.choice(ends) if draw < 0.4 else completed(reply)), False

    def _order(self, store, _number, chance):
        while not self.over.wait(0.03):
            draw = chance.random()
            limited = chance.choice([self.twice, self.budget, self.types[0].endpoints[0]])
            if draw < 0.2:
                store.control.pause(limited, "me", 0.05)
            elif draw < 0.4:
                store.control.resume(limited, "me")
            elif draw < 0.5:
                store.control.limit(self.twice, chance.choice(["4 per 0.4 second", "2 per 0.4 second"]), "me")
            elif draw < 0.55:
                store.rules.publish(self.world.token, self.types, {})
            run = store.runs.current()
            if chance.random() < 0.05:
                store.runs.cancel(run.id)
            if (run.cancelled or run.state == "finishing" or chance.random() < 0.03) and store.runs.end(
                run.id, self.world.token
            ):
                self._next_run(store)

    def _next_run(self, store):
        tally, counts = store.runs.tally(), store.ledger.count(["A", "B", "C"])
        for name, count in counts.items():
            came = tally.get(f"carried:{name}", 0)
            went = tally.get(f"completed:{name}", 0) + tally.get(f"failed:{name}", 0)
            if came != went + count.pending or count.unsettled != count.pending:
                self.faults.append(f"{name}: {came} came, {went} went, {count}")
        store.client.delete(self.world.keys.run, self.world.keys.tally, self.world.keys.open)
        self.world.open(2.5, **self.fields)


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_lanes_and_operators_do_at_once_no_window_is_exceeded_and_no_event_is_lost_or_settled_twice(
    world, seed
):
    crowd = Crowd(world, seed)

    crowd.play(3.0)

    assert crowd.faults == []
    for name, (amount, seconds) in LIMITS.items():
        assert most_within([round(at * 1_000_000) for at in crowd.arrivals[name]], seconds) <= amount, name
    amount, seconds = SHARED
    shared = [round(at * 1_000_000) for name in "abc" for at in crowd.arrivals[name]]
    assert most_within(shared, seconds) <= amount
    assert max(crowd.settled.values()) == 1
    places = Counter(world.place(f"i{n}:{name}") for name in "ABC" for n in range(1, 301))
    assert places["gone"] == 0
    assert places["completed"] > 0
