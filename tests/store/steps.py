"""Steps of the store's tests: push items, open runs, claim and settle events, several at once."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from rlm.admin.planning import types_in_force
from rlm.core.call import CallEnd
from rlm.core.item import Reason, encode_letter
from rlm.core.run import Run, State, Trigger, new_run
from rlm.delivery.attempt import trail_entry
from rlm.ledger.processes import Role
from rlm.ledger.store import Store
from rlm.ledger.turns import Ask, Claim, Settlement, TurnReply
from tests.values import replace

T = TypeVar("T")

#: Who holds the lease.
CONDUCTOR = "conductor"
#: The configured type of the highest priority, another one, and endpoints of the first.
TYPE = "REBALANCE_NEEDED"
OTHER_TYPE = "OPEN_ORDER_DETECTED"
ENDPOINT = "rebalance_api"
OVERFLOW = "overflow_rebalance_api_1"

#: The next ask, and the next lane that has no call yet; and the lane of each claim.
asks, _lanes = itertools.count(1), itertools.count(1)
_lane_of: dict[tuple[str, int], int] = {}


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
    return new_run(Trigger.MANUAL, store.now(), window_seconds, store.settings.revision)


def open_run(store: Store, token: int, window_seconds: float = 60.0) -> Run:
    """Publish the rules of its lanes, open a run and leave it draining."""
    publish(store, token)
    run = make_run(store, window_seconds)
    assert store.runs.open(token, run, store.ledger.types()) == run.id
    return run


def silence(store: Store, role: Role, process_id: str) -> None:
    """Let a process have been heard from last so long ago that it is missing."""
    store.client.hset(store.keys.processes, f"{role} {process_id}", b"1 {}")


def publish(store: Store, token: int) -> None:
    """Publish what lanes must know: every type, in the order of the file, with the limits in force."""
    store.rules.publish(token, types_in_force(store), {})


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
    assert store.runs.start(token, run.id)
    return replace(run, state=State.RUNNING)


def ask(store: Store, worker: str = "worker-1", lane: int = 1, **options: Any) -> TurnReply:
    """Let a lane take its turn."""
    epoch = cast("bytes", store.client.hget(store.keys.lease, "epoch")).decode()
    known: dict[str, Any] = {
        "n": next(asks),
        "revision": store.settings.revision,
        "epoch": epoch,
        "expects": store.now_us(),
    }
    return store.turns.take(Ask(worker=worker, lane=lane, **{**known, **options}))


def claim(store: Store, worker: str = "worker-1", lane: int = 0, **options: Any) -> Claim:
    """Let a lane, by default one that has no call yet, claim the next event."""
    lane = lane or next(_lanes)
    call = ask(store, worker, lane, **options).call
    assert call is not None
    return in_lane(call, lane)


def in_lane(claim: Claim, lane: int) -> Claim:
    """Remember the lane of a claim; return the claim."""
    _lane_of[claim.event_id, claim.number] = lane
    return claim


def lane_of(claim: Claim) -> int:
    """Return the lane of a claim."""
    return _lane_of[claim.event_id, claim.number]


def settlement(claim: Claim, to: str, finish: CallEnd | None = None, **options: Any) -> Settlement:
    """Return what a lane tells of its claim; without a `finish` the call was not sent."""
    told: dict[str, Any] = {"endpoint": claim.endpoint, "stamp": claim.stamp, "to": to, **options}
    if finish:
        entry = trail_entry(claim, finish, "", None)
        told = {"sent": True, "finish": finish, "took_ms": "100", "entry": entry, **told}
    return Settlement(event_id=claim.event_id, number=claim.number, **told)


def settle(store: Store, claim: Claim, to: str, finish: CallEnd | None = None, **options: Any) -> bool:
    """Let the lane of a claim settle it, and ask for nothing; return whether it was still the lane's."""
    told = settlement(claim, to, finish, **options)
    reply = ask(store, claim.worker_id, lane_of(claim), nothing=True, settle=told)
    return reply.settled and not reply.stale


def complete(store: Store, claim: Claim, seconds: float = 0.1, **options: Any) -> bool:
    """Let a call complete its event."""
    known = {"health": "well", "took_ms": f"{seconds * 1000:g}", "tried": claim.tried()}
    return settle(store, claim, "completed", CallEnd.COMPLETED, **known, **options)


def reject(store: Store, claim: Claim, detail: str = "422", **options: Any) -> bool:
    """Let the endpoint of a call reject its event, which becomes a dead letter."""
    facts = {"run_id": claim.run_id, "event": claim.event_id, "endpoint": claim.endpoint}
    letter = encode_letter(claim.item, Reason.REJECTED, detail, failed_at=store.now(), **facts).decode()
    return settle(store, claim, "failed", CallEnd.REJECTED, letter=letter, tried=claim.tried(), **options)


def fail(store: Store, claim: Claim, to: str = "ready", **options: Any) -> bool:
    """Let a call fail temporarily; its event waits again, in `backoff`, or has `spent` its attempts of this run."""
    known = {"tried": claim.tried(spends_run=to == "spent")}
    return settle(store, claim, to, CallEnd.ERROR, **{**known, **options})


def put_into(store: Store, state: State) -> None:
    """Put the open run into a state, whatever its state is."""
    store.client.hset(store.keys.run, "state", state)


def finish(store: Store, token: int, run: Run) -> None:
    """End a run: nothing is claimed any more, and what is not settled is ready."""
    assert store.runs.end(run.id, token)


def take_over(store: Store, owner: str = "successor") -> int:
    """Let another conductor take the lease; return its token. The first one's is stale from now on."""
    store.leases.release(CONDUCTOR)
    return store.leases.contend(owner, 600).token


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
