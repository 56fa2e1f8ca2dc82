"""A seeded workload on a store: producers, a conductor, and workers that die, are late, and repeat themselves."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from rlm.core.item import type_of
from rlm.core.run import State
from rlm.core.trail import CallEnd
from rlm.delivery import run_end
from tests.store import deadletters, looks, steps

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from rlm.core.run import Run
    from rlm.ledger import Store
    from rlm.ledger.turns import Claim

T = TypeVar("T")

TYPES = (steps.TYPE, steps.OTHER_TYPE)
WORKERS = ("worker-1", "worker-2", "worker-3")
#: The share of messages and reports that are not repeated.
REMOVED_SHARE = 0.8


def assert_books_balance(store: Store, run: Run) -> None:
    """Check at one instant that books and ledger agree: each taken event is in a place or settled, for each type."""
    keys, client = store.keys, store.client
    pipeline = client.pipeline(transaction=True)
    pipeline.hget(keys.run, "run_id")
    pipeline.hgetall(keys.tally)
    for name in TYPES:
        pipeline.zcard(keys.ready(name))
    pipeline.zrange(keys.inflight, 0, -1)
    pipeline.zrange(keys.backoff, 0, -1)
    current, raw, *ready, flying, later = pipeline.execute()
    assert current == run.id.encode()
    tally = {key.decode(): int(number) for key, number in raw.items()}
    for name, pending in zip(TYPES, ready, strict=True):
        came = tally.get(f"taken:{name}", 0) + tally.get(f"carried:{name}", 0)
        settled = tally.get(f"completed:{name}", 0) + tally.get(f"failed:{name}", 0)
        held = sum(type_of(event_id.decode()) == name for event_id in (*flying, *later))
        assert came == pending + held + settled, (name, tally, pending, held)


@dataclass
class Workload:
    """The outside view: pushed items, runs that lanes work for, and the claims that they have or believe to have.

    `pushed` are the ids of the events that entered, `completed` those that a worker was told it completed.
    """

    store: Store
    token: int
    random: random.Random
    run: Run
    run_ids: list[str] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    pushed: list[str] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    #: Nobody else changes anything meanwhile.
    alone: bool = True

    def pick(self, pile: list[T]) -> T | None:
        """Pick one of a pile, mostly removing it; None of an empty one."""
        with self.lock:
            if not pile:
                return None
            index = self.random.randrange(len(pile))
            return pile.pop(index) if self.random.random() < REMOVED_SHARE else pile[index]

    def push(self, number: int) -> None:
        """Push items of one or both types; some have been pushed before."""
        for _ in range(number):
            types = self.random.choice([TYPES, TYPES[:1], TYPES[1:]])
            item = f"i{self.random.randrange(1, 200)}"
            steps.push(self.store, steps.item(item, *types, priority=self.random.randrange(3)))
            self.pushed += [f"{item}:{name}" for name in types]

    def take_turn(self) -> None:
        """Let a lane take its turn, perhaps with the answer to a call, perhaps without the one that it has."""
        done = self.pick(self.claims) if self.random.random() < 0.5 else None
        worker, lane = self.random.choice(WORKERS), self.random.randint(1, 3)
        told = None
        if done is not None:
            worker, lane = done.worker_id, steps.lane_of(done)
            told = steps.settlement(done, "completed", CallEnd.COMPLETED, well=True, tried=True)
        reply = steps.ask(self.store, worker, lane, settle=told)
        if done is not None and reply.settled and not reply.stale:
            self.completed.append(done.event_id)
        if claim := reply.claim(worker):
            self.claims.append(steps.in_lane(claim, lane))

    def repeat(self) -> None:
        """Let a lane ask once more that does not know the answer to its ask; it gets the same call, or no other."""
        number, worker, lane = next(steps.asks), self.random.choice(WORKERS), self.random.randint(1, 3)
        first, second = (steps.ask(self.store, worker, lane, n=number).claim(worker) for _ in range(2))
        if first and second and self.alone:
            assert (first.event_id, first.number) == (second.event_id, second.number)
        if second:
            self.claims.append(steps.in_lane(second, lane))

    def settle(self) -> None:
        """Let a worker report the end of a claim; it may have lost it, or may repeat the report later."""
        claim = self.pick(self.claims)
        if claim is None:
            return
        store, delay_us = self.store, self.random.choice([0, 60_000_000])
        ways: list[Callable[[], bool]] = [
            lambda: steps.complete(store, claim),
            lambda: steps.reject(store, claim),
            lambda: steps.settle(store, claim, "ready"),
            lambda: steps.settle(store, claim, "ready", CallEnd.THROTTLED),
            lambda: steps.fail(store, claim, "backoff", delay_us=delay_us),
            lambda: steps.fail(store, claim, "spent"),
        ]
        way = self.random.choice([ways[0], *ways])
        if way() and way is ways[0]:
            self.completed.append(claim.event_id)

    def die(self) -> None:
        """Let a worker die: its claims are taken back, but late reports of it may still come."""
        self.store.recovery.reap(self.random.choice(WORKERS))

    def freeze(self) -> None:
        """Let the lease of a claim run out."""
        if claim := self.pick(self.claims):
            self.store.client.zadd(self.store.keys.inflight, {claim.event_id: 1}, xx=True)

    def retry_letter(self) -> None:
        """Send the event of a dead letter again."""
        if raw := next(self.store.letters.all(), None):
            deadletters.retry(self.store, raw)

    def step(self) -> None:
        """Do one of these."""
        verbs = {self.take_turn: 12, self.settle: 8}
        verbs |= dict.fromkeys([self.repeat, self.die, self.freeze, self.retry_letter], 1)
        (verb,) = self.random.choices([*verbs], [*verbs.values()])
        verb()

    def next_run(self) -> None:
        """Close the run with everything that is unsettled, check its record, and open the next."""
        steps.finish(self.store, self.token, self.run)
        for _ in range(5):
            self.settle()
            assert_books_balance(self.store, self.run)
        assert_books_balance(self.store, self.run)
        record = run_end.close_run(self.store, self.run.id)
        assert record is not None
        for name in TYPES:
            counts = record.by_type[name]
            assert counts.leftover == looks.counts(self.store, name).pending == len(looks.pending(self.store, name))
        self.push(10)
        self.run_ids.append(self.run.id)
        self.run = steps.open_run(self.store, self.token)
        assert_books_balance(self.store, self.run)
        for _ in self.store.intake.drain(self.token, self.run.id, steps.priorities(self.store)):
            assert_books_balance(self.store, self.run)
        for state in (State.PLANNING, State.RUNNING):
            assert self.store.runs.advance(self.token, self.run.id, state)
