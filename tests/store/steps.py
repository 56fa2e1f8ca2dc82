"""Steps of the store's tests: push items, open runs, release and claim events, several at once."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import structs

from rlm.core.clock import system_clock
from rlm.core.run import Run, State, Trigger, make_run_id
from rlm.ledger.claims import Claim, Completion, LaneId
from rlm.ledger.drain import Drain
from rlm.ledger.turns import Release, Terms
from scheduler.release_loop import ReleaseLoop
from tests.values import replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlm.ledger import Store
    from rlm.ledger.claims import Turn
    from scheduler.office import HandConductor

T = TypeVar("T")

#: Who holds the lease.
CONDUCTOR = "conductor"
#: The configured type of the highest priority, another one, and endpoints of the first.
TYPE = "REBALANCE_NEEDED"
OTHER_TYPE = "OPEN_ORDER_DETECTED"
ENDPOINT = "rebalance_api"
OVERFLOW = "overflow_rebalance_api_1"


def item(item_id: str, *types: str, **fields: Any) -> bytes:
    """Write an audit item with these event types."""
    return json.dumps({"id": item_id, "wallet_name": f"wallet of {item_id}", "events": types, **fields}).encode()


def items(number: int, *types: str, first: int = 1) -> list[bytes]:
    """Write items `i1`, `i2`, ... with these event types."""
    return [item(f"i{index}", *types) for index in range(first, first + number)]


def push(store: Store, *items: bytes) -> None:
    """Push items onto the audit list."""
    if items:
        store.intake.push(items)


def make_run(store: Store, window_seconds: float = 60.0) -> Run:
    """Make a run that starts now, not yet opened."""
    now, (now_us, _) = system_clock.now(), store.windows.look(())
    return Run(
        id=make_run_id(now),
        state=State.DRAINING,
        trigger=Trigger.MANUAL,
        started_at=now,
        deadline=now + window_seconds,
        deadline_us=now_us + round(window_seconds * 1_000_000),
        window_seconds=window_seconds,
        revision=store.settings.revision,
    )


def open_run(store: Store, token: int, window_seconds: float = 60.0) -> Run:
    """Open a run and leave it draining."""
    run = make_run(store, window_seconds)
    assert store.runs.open(token, run, store.known_types) == run.id
    return run


def drain(store: Store, token: int, run: Run) -> int:
    """Drain the audit list into the ledger; return how many events were taken."""
    return sum(store.intake.drain(token, run.id, priorities(store)))


def priorities(store: Store) -> dict[str, int]:
    """Return each configured type's own priority."""
    return {one.name: one.priority for one in store.settings.event_types}


def start_run(store: Store, token: int, window_seconds: float = 60.0) -> Run:
    """Open a run, drain into it, and set it running."""
    run = open_run(store, token, window_seconds)
    drain(store, token, run)
    for state in (State.PLANNING, State.RUNNING):
        assert store.runs.advance(token, run.id, state)
    return replace(run, state=State.RUNNING)


def release_loop(store: Store, conductor: HandConductor, of: Run | Drain) -> ReleaseLoop:
    """Return the loop that releases the calls of a run, or of a drain's run; its first turn makes a forecast."""
    inner, leader = conductor._conductor, conductor._leader
    drain = of if isinstance(of, Drain) else Drain(store, leader.token, of)
    loop = ReleaseLoop(store, inner._broker, leader, inner._redis, conductor._duty, drain)
    loop._forecaster.follow(loop._types)
    return loop


def release(
    store: Store, token: int, run: Run, number: int = 1, type_name: str = TYPE, endpoint: str = "", **changes: Any
) -> list[Release]:
    """Release `number` calls of a type.

    `changes` are to their moments, microseconds from now, and to their terms.
    """
    (kind,) = [one for one in store.settings.event_types if one.name == type_name]
    at = store.endpoints()[endpoint or kind.endpoints[0].name]
    terms = changes.pop("terms", None) or Terms.of(
        kind, at, store.keys, store.settings.run.guard_seconds, store.settings.revision
    )
    if "lease_seconds" in changes:
        terms = structs.replace(terms, lease=round(1_000_000 * changes.pop("lease_seconds")))
    now_us, left_us = store.now_us(), round(1_000_000 * run.window_seconds)
    moments = {"void": 60_000_000, "begin": left_us, "deadline": left_us, **changes}
    made = Release(run.id, **{name: now_us + us for name, us in moments.items()}, call=100_000, of=terms)
    store.turns.release(token, run.id, [made] * number)
    return [made] * number


def turn(store: Store, run: Run, worker: str = "worker-1", lane: int = 1, **options: Any) -> Turn:
    """Let a lane take its turn."""
    return store.turns.take(LaneId(worker, lane), run.id, **options)


def claim(store: Store, run: Run, worker: str = "worker-1", lane: int = 1, **options: Any) -> Claim:
    """Claim an event for the next released call."""
    claimed = turn(store, run, worker, lane, **options).claim
    assert claimed is not None
    return claimed


def claim_next(
    store: Store, token: int, run: Run, worker: str = "worker-1", type_name: str = TYPE, **changes: Any
) -> Claim:
    """Release a call of a type and claim the first pending event for it."""
    options = {name: changes.pop(name) for name in ("lane", "with_slot") if name in changes}
    release(store, token, run, 1, type_name, changes.pop("endpoint", ""), **changes)
    return claim(store, run, worker, **options)


def completed(claim: Claim, seconds: float = 0.1, answer: str = "") -> Completion:
    """Return a lane's completion of a claim whose call was answered well."""
    return Completion(claim, ENDPOINT, seconds, answer)


def put_into(store: Store, run: Run, state: State) -> None:
    """Put the open run into a state, whatever its state is."""
    store.client.hset(store.keys.run(run.id), "state", state)


def finish(store: Store, token: int, run: Run) -> None:
    """Set a run finishing: nothing is claimed any more."""
    assert store.runs.advance(token, run.id, State.FINISHING)


def take_over(store: Store, owner: str = "successor") -> int:
    """Let another conductor take the lease; return its token. The first one's is stale from now on."""
    store.leases.release(CONDUCTOR)
    return store.leases.acquire(owner, 600)


def event_id(number: int, type_name: str = TYPE) -> str:
    """Name the event of item `i<number>`."""
    return f"i{number}:{type_name}"


def event_ids(number: int, type_name: str = TYPE) -> list[str]:
    """Name the events of the items `i1` to `i<number>`."""
    return [event_id(index, type_name) for index in range(1, number + 1)]


def at_once(*actions: Callable[[], T]) -> list[T]:
    """Run each action in its own thread, all starting at the same moment; return the results in order."""
    barrier = threading.Barrier(len(actions))

    def run(action: Callable[[], T]) -> T:
        barrier.wait(10)
        return action()

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(run, actions))
