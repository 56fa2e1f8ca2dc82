"""The actor that dispatches one event. Thin: the message is a claim check, the work is the lane's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dramatiq

from actors.messages import QUEUE
from rlm.ledger.claims import ClaimCheck

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.broker import ClaimCheckBroker
    from rlm.ledger.recovery import Recovery

ACTOR = "dispatch_event"


def declare(broker: dramatiq.Broker, carry: Callable[[ClaimCheck], None]) -> None:
    """Declare the actor on `broker`; it hands each release to `carry`."""

    def dispatch_event(event_id: str, run_id: str, number: int) -> None:
        carry(ClaimCheck(event_id, run_id, number))

    dramatiq.actor(broker=broker, actor_name=ACTOR, queue_name=QUEUE)(dispatch_event)


def message(release: ClaimCheck) -> dramatiq.Message[Any]:
    """Write the claim check of a release."""
    return dramatiq.Message(
        queue_name=QUEUE,
        actor_name=ACTOR,
        args=(release.event_id, release.run_id, release.number),
        kwargs={},
        options={},
    )


def read(received: dramatiq.Message[Any]) -> ClaimCheck | None:
    """Read a claim check back; None for a message of another actor, or one that another version wrote."""
    match received.actor_name, *received.args:
        case str(name), str(event_id), str(run_id), int(number) if name == ACTOR:
            return ClaimCheck(event_id, run_id, number)
    return None


def recover(recovery: Recovery, broker: ClaimCheckBroker, worker_id: str) -> int:
    """Free the releases that a dead worker had fetched, and delete their messages; return how many events."""
    fetched = [read(received) for received in broker.fetched_by(worker_id)]
    freed = recovery.void_fetched(release for release in fetched if release is not None)
    broker.forget(worker_id)
    return freed
