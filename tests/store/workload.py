"""A seeded workload on a store: producers, a conductor, and workers that die, are late, and repeat themselves."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from rlm.core.item import Reason
from rlm.core.run import State
from rlm.core.trail import Counts
from rlm.delivery import run_end
from rlm.ledger.claims import Call, Claim, Completion, LaneId
from tests.store import deadletters, looks, steps

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from rlm.core.run import Run
    from rlm.ledger import Store

T = TypeVar("T")

TYPES = (steps.TYPE, steps.OTHER_TYPE)
WORKERS = ("worker-1", "worker-2", "worker-3")
#: The share of messages and reports that are not repeated.
REMOVED_SHARE = 0.8


def assert_books_balance(store: Store, run: Run) -> None:
    """Check at one instant that books and ledger agree: each taken event is in a place or settled, for each type."""
    keys, client = store.keys, store.client
    pipeline = client.pipeline(transaction=True)
    pipeline.get(keys.current)
    pipeline.hgetall(keys.tally(run.id))
    for name in TYPES:
        for key in (keys.ready(name), *keys.holders(name)):
            pipeline.zcard(key)
    current, raw, *cards = pipeline.execute()
    assert current == run.id.encode()
    tally = {key.decode(): int(number) for key, number in raw.items()}
    for index, name in enumerate(TYPES):
        came = tally.get(f"taken:{name}", 0) + tally.get(f"carried:{name}", 0)
        settled = tally.get(f"completed:{name}", 0) + tally.get(f"failed:{name}", 0)
        pending, *held = cards[4 * index : 4 * index + 4]
        unsettled = Counts(pending, 0, *held)
        assert came == unsettled.unsettled + settled, (name, tally, unsettled)


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

    def release(self) -> None:
        """Release a few calls: some will not be made in time, and some leases end at once."""
        name, void_us = self.random.choice(TYPES), self.random.choice([0, 60_000_000, 60_000_000])
        number, lease = self.random.randint(1, 4), self.random.choice([0, 60, 60])
        steps.release(self.store, self.token, self.run, number, name, void=void_us, lease_seconds=lease)

    def take_turn(self) -> None:
        """Let a lane take its turn, perhaps for an older run, perhaps with an answer; its call may begin."""
        done = self.pick(self.claims) if self.random.random() < 0.5 else None
        lane = done.lane if done else LaneId(self.random.choice(WORKERS), self.random.randint(1, 3))
        completed = Completion(done, done.endpoint, 0.1) if done else None
        run_id = self.random.choice([self.run.id, self.run.id, *self.run_ids[-1:]])
        turn = self.store.turns.take(lane, run_id, completed, with_slot=self.random.choice([False, True]))
        if done and turn.settled:
            self.completed.append(done.event_id)
        if turn.claim is None:
            return
        self.claims.append(turn.claim)
        if turn.claim.alone:
            self.store.ledger.begin_alone(turn.claim)
        if not turn.claim.stamp and self.random.random() < 0.7:
            endpoint = self.store.settings.endpoints[turn.claim.endpoint]
            self.store.windows.acquire(endpoint, Call(lane, turn.claim.event_id, endpoint.name))

    def lose_answer(self) -> None:
        """Let a lane give back its event, like one that does not know the answer to its turn."""
        lane = LaneId(self.random.choice(WORKERS), self.random.randint(1, 3))
        for held in self.store.ledger.held_by(lane):
            self.store.ledger.unclaim(lane, self.run.id, held)

    def settle(self) -> None:
        """Let a worker report the end of a claim; it may have lost it, or may repeat the report later."""
        claim = self.pick(self.claims)
        if claim is None:
            return
        ledger, endpoint = self.store.ledger, claim.endpoint
        ways: list[Callable[[], bool]] = [
            lambda: self.store.turns.complete(Completion(claim, endpoint, 0.1)),
            lambda: ledger.fail(claim, Reason.REJECTED, "no", endpoint),
            lambda: ledger.give_back(claim),
            lambda: ledger.throttle(claim, endpoint),
            lambda: ledger.retry(claim, endpoint, self.random.choice([0, 60])),
            lambda: ledger.spend(claim, endpoint),
        ]
        way = self.random.choice([ways[0], *ways])
        if way() and way is ways[0]:
            self.completed.append(claim.event_id)

    def die(self) -> None:
        """Let a worker die: its claims are taken back, but late reports of it may still come."""
        self.store.recovery.orphan_worker(self.random.choice(WORKERS))

    def keep_house(self) -> None:
        """Do the conductor's regular work: void, promote, take back expired claims."""
        recovery, now_us = self.store.recovery, looks.redis_us(self.store)
        recovery.void_releases(self.token)
        self.random.choice([recovery.promote, recovery.orphan_expired])(TYPES, now_us)

    def retry_letter(self) -> None:
        """Send the event of a dead letter into the next run."""
        if raw := next(self.store.letters.all(), None):
            deadletters.retry(self.store, raw)

    def step(self) -> None:
        """Do one of these."""
        verbs = {self.release: 6, self.take_turn: 12, self.settle: 8, self.keep_house: 3}
        verbs |= dict.fromkeys([self.die, self.retry_letter, self.lose_answer], 1)
        (verb,) = self.random.choices([*verbs], [*verbs.values()])
        verb()

    def next_run(self) -> None:
        """Close the run with everything that is unsettled, check its record, and open the next."""
        steps.finish(self.store, self.token, self.run)
        for _ in range(5):
            self.settle()
            assert_books_balance(self.store, self.run)
        assert self.store.recovery.return_unsettled(self.run.id, TYPES)
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
