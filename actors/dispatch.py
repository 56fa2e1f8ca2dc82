"""The actor `dispatch`, of which one message is one lane for as long as its worker lives."""

from __future__ import annotations

from collections.abc import Callable

import dramatiq
from dramatiq import Actor, Broker


def make_dispatch(broker: Broker, carry: Callable[[], None]) -> Actor[[], None]:
    """Declare `dispatch` at the broker of a worker. `carry` is what a lane does (`rlm.delivery.lane.Lanes.carry`)."""

    @dramatiq.actor(broker=broker, queue_name="dispatch")
    def dispatch() -> None:
        """Carry events, one after the other, until this worker is told to stop.

        It is not one message an event: 1,800 messages a run would only repeat what the ledger says. The ledger gives
        each event to one lane, counts its attempts, and takes it back from a worker that died. A queue beside it could
        be wrong, but it could not help: whether a call may be made is known when a slot is free, not when it is queued.
        """
        carry()

    return dispatch
