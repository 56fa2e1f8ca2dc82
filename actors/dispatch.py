"""The two actors of a worker: `dispatch`, of which one message is one lane, and `record`, which closes a run."""

from __future__ import annotations

import logging
from collections.abc import Callable

import dramatiq
from dramatiq import Actor, Broker

from rlm.core.errors import StoreError
from rlm.core.failpoints import crash_point
from rlm.delivery.run_end import close_run
from rlm.ledger.store import Store

log = logging.getLogger(__name__)


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


def make_record(broker: Broker, store: Store) -> Actor[[str], None]:
    """Declare `record` at the broker of a worker. Lanes that hear that the run is to be closed send its messages."""

    @dramatiq.actor(broker=broker, queue_name="record")
    def record(run_id: str) -> None:
        """Write the record of a run that is over, if this is the process that closes it.

        If Redis fails nothing is lost: the lanes hear that the run is to be closed until it is.
        """
        crash_point("worker.closing")
        try:
            with store.guarded():
                close_run(store, run_id)
        except StoreError as error:
            extra = {"action": "close_run", "run_id": run_id}
            log.info("Run %s cannot be closed here yet, because Redis failed: %s", run_id, error, extra=extra)
            return
        crash_point("worker.closed")

    return record
