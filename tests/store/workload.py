"""A seeded workload on a store: producers, a conductor and workers that die, are late, and repeat themselves."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from rlm.core.event import Reason
from rlm.core.run import State
from rlm.core.trail import Counts
from rlm.delivery import closing
from rlm.ledger.claims import Claim, Completion
from rlm.ledger.limiter import Call
from tests.store import looks, steps

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from rlm.core.run import Run
    from rlm.ledger import Store
    from rlm.ledger.claims import ClaimCheck

T = TypeVar("T")

TYPES = (steps.TYPE, steps.OTHER_TYPE)
WORKERS = ("worker-1", "worker-2", "worker-3")
#: The share of messages and of workers' words that do not come again.
REMOVED_SHARE = 0.8


def assert_books_balance(store: Store, run: Run) -> None:
    """Read the books and the ledger at one instant: what came in is somewhere, or settled, for each type."""
    keys, client = store.keys, store.client
    pipeline = client.pipeline(transaction=True)
    pipeline.get(keys.current)
    pipeline.hgetall(keys.tally(run.id))
    for name in TYPES:
        for key in (keys.pending(name), *keys.holders(name)):
            pipeline.zcard(key)
    current, raw, *cards = pipeline.execute()
    assert current == run.id.encode()
    tally = {key.decode(): int(number) for key, number in raw.items()}
    for index, name in enumerate(TYPES):
        came = tally.get(f"taken:{name}", 0) + tally.get(f"carried:{name}", 0)
        settled = tally.get(f"completed:{name}", 0) + tally.get(f"failed:{name}", 0)
        unsettled = Counts(*cards[5 * index : 5 * index + 5])
        assert came == unsettled.unsettled + settled, (name, tally, unsettled)


@dataclass
class Workload:
    """What the outside world knows: items pushed, messages under way, claims that workers hold or believe they hold.

    `pushed` are the ids of the events that entered, `completed` those that a worker was told it had completed.
    """

    store: Store
    token: int
    random: random.Random
    run: Run
    messages: list[ClaimCheck] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    pushed: list[str] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def pick(self, pile: list[T]) -> T | None:
        """Pick one of a pile, mostly taking it away; None of an empty one."""
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
        """Release a few events, some of which will not be claimed in time."""
        name, seconds = self.random.choice(TYPES), self.random.choice([0, 60, 60])
        endpoint = "open_order_api" if name == steps.OTHER_TYPE else steps.ENDPOINT
        number = self.random.randint(1, 4)
        self.messages += steps.release(self.store, self.token, self.run, number, name, endpoint, seconds)

    def deliver(self) -> None:
        """Deliver a message, perhaps an old one, perhaps not for the last time; perhaps its call is begun."""
        message = self.pick(self.messages)
        if message is None:
            return
        worker, lease = self.random.choice(WORKERS), self.random.choice([0, 60, 60])
        claim = steps.try_claim(self.store, message, worker, lease_seconds=lease)
        if not isinstance(claim, Claim):
            return
        self.claims.append(claim)
        if self.random.random() < 0.7:
            endpoint = self.store.settings.endpoints[claim.endpoint]
            self.store.windows.acquire(endpoint, Call(claim.lane, claim.event_id, endpoint.name))

    def settle(self) -> None:
        """Have a worker say how a claim ended; it may have lost it, or may say so again later."""
        claim = self.pick(self.claims)
        if claim is None:
            return
        ledger, endpoint = self.store.ledger, claim.endpoint
        ways: list[Callable[[], bool]] = [
            lambda: ledger.complete(Completion(claim, endpoint, 0.1)),
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
        """Have a worker die: its claims are taken back, though words of it may still come; so are its messages."""
        self.store.recovery.orphan_worker(self.random.choice(WORKERS))
        if (message := self.pick(self.messages)) is not None:
            self.store.recovery.void_fetched([message])

    def keep_house(self) -> None:
        """Do what the conductor does all the time: void, promote, take back what has expired."""
        recovery, now_us = self.store.recovery, looks.redis_us(self.store)
        self.random.choice([recovery.void_unclaimed, recovery.promote, recovery.orphan_expired])(TYPES, now_us)

    def retry_letter(self) -> None:
        """Send the event of a dead letter into the next run."""
        if raw := next(self.store.letters.all(), None):
            self.store.letters.retry(raw, steps.priorities(self.store))

    def step(self) -> None:
        """Do one of these."""
        verbs = [self.release, self.deliver, self.settle, self.die, self.keep_house, self.retry_letter]
        (verb,) = self.random.choices(verbs, [6, 10, 10, 1, 3, 1])
        verb()

    def next_run(self) -> None:
        """Close the run with everything that is unsettled, check its record, and open the next."""
        steps.finish(self.store, self.token, self.run)
        for _ in range(5):
            self.settle()
            assert_books_balance(self.store, self.run)
        assert self.store.runs.return_unsettled(self.run.id, TYPES)
        assert_books_balance(self.store, self.run)
        record = closing.close_run(self.store, self.run.id)
        assert record is not None
        for name in TYPES:
            counts = record["by_type"][name]
            assert counts["leftover"] == looks.counts(self.store, name).pending == len(looks.pending(self.store, name))
        self.push(10)
        self.run = steps.open_run(self.store, self.token)
        assert_books_balance(self.store, self.run)
        for _ in self.store.intake.drain(self.token, self.run.id, steps.priorities(self.store)):
            assert_books_balance(self.store, self.run)
        for state in (State.PLANNING, State.RUNNING):
            assert self.store.runs.advance(self.token, self.run.id, state)
