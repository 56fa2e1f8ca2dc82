"""The actor `record`, which closes a run in which nothing more can be done."""

from __future__ import annotations

import logging

import dramatiq
from dramatiq import Actor, Broker

from rlm.core.errors import StoreError
from rlm.core.failpoints import crash_point
from rlm.delivery.run_end import close_run
from rlm.ledger.store import Store

log = logging.getLogger(__name__)


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
