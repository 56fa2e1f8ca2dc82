"""The end-of-run actor: records what was left for the next run, and closes this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dramatiq

from actors.messages import QUEUE

if TYPE_CHECKING:
    from collections.abc import Callable

ACTOR = "record_leftovers"


def declare(broker: dramatiq.Broker, close_run: Callable[[str], object]) -> None:
    """Declare the actor on `broker`; it closes the run it is told of with `close_run`, which does so exactly once."""

    def record_leftovers(run_id: str) -> None:
        close_run(run_id)

    dramatiq.actor(broker=broker, actor_name=ACTOR, queue_name=QUEUE)(record_leftovers)


def message(run_id: str) -> dramatiq.Message[Any]:
    """Write the message that has a run's leftovers recorded."""
    return dramatiq.Message(queue_name=QUEUE, actor_name=ACTOR, args=(run_id,), kwargs={}, options={})
