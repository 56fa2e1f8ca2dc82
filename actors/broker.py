"""The Dramatiq broker: messages are claim checks, and consumers sleep until they are woken.

A message may be lost, doubled or late without harm, because the ledger decides. So there are no retries, no delays and
no results here, and an acknowledgement that cannot be made is no reason to stop a lane.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import uuid4

from dramatiq.brokers.redis import RedisBroker

from actors.consumer import WakefulConsumer
from actors.messages import QUEUE, read_message
from rlm.ledger.connect import make_client, translated
from rlm.telemetry.bounded import Bounded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dramatiq import Message

#: One word about dropped messages in this time, seconds.
_QUIET_SECONDS: Final = 60.0


class ClaimCheckBroker(RedisBroker):
    """A Redis broker without delay queues, whose consumers wait to be woken instead of polling.

    Its consumers share what one that lost Redis leaves to its successor: which messages are `held`, by identity, in the
    lanes or on their way there; whether there is something to fetch (`woken`); whether to end (`stopping`); and the
    bound on what is told of `dropped` messages.
    """

    def __init__(self, url: str, namespace: str) -> None:
        super().__init__(client=make_client(url), middleware=[], namespace=namespace)  # type: ignore[no-untyped-call]
        self.woken = threading.Event()
        self.stopping = threading.Event()
        self.held: set[int] = set()
        self.dropped = Bounded(_QUIET_SECONDS)

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue without its delay queue: nothing is ever delayed, and a consumer less polls."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> WakefulConsumer:  # noqa: ARG002  # dramatiq's signature
        """Return a consumer that sleeps until `wake` where there is nothing to fetch, or nobody to hand it to."""
        return WakefulConsumer(self, prefetch)

    def wake(self) -> None:
        """Wake the consumers: there are messages."""
        self.woken.set()

    def stop_fetching(self) -> None:
        """Fetch no more: the worker is about to stop."""
        self.stopping.set()
        self.woken.set()

    def enqueue_many(self, messages: Iterable[Message[Any]]) -> None:
        """Enqueue messages in one round trip.

        Raises:
            StoreError: they may have been enqueued, or not. Their releases are void when nobody claims them in time.
        """
        with translated(self.client):
            pipeline = self.client.pipeline(transaction=True)  # else a message without its id in the queue stays
            sent = 0
            for message in messages:
                message_id = str(uuid4())
                sealed = message.copy(options={"redis_message_id": message_id})
                self._queue_up(pipeline, sealed, message_id)
                sent += 1
            if sent:
                pipeline.execute()

    def _queue_up(self, pipeline: Any, message: Message[Any], message_id: str) -> None:
        # What the stock script does to enqueue, without its heartbeat: whoever only produces is no worker.
        queue = f"{self.namespace}:{message.queue_name}"
        pipeline.hset(f"{queue}.msgs", message_id, message.encode())
        pipeline.rpush(queue, message_id)

    def fetched_by(self, broker_id: str) -> list[Message[Any]]:
        """Return the messages that a worker, known by its broker id, has fetched and not acknowledged."""
        with translated(self.client):
            ids = cast("set[bytes]", self.client.smembers(self._acks(broker_id)))
            data = cast("list[bytes | None]", self.client.hmget(self._messages(), list(ids))) if ids else []
        return [message for message in map(read_message, data) if message is not None]

    def forget(self, broker_id: str) -> None:
        """Delete what a worker that has ended had fetched, and its heartbeat: its claim checks are void."""
        with translated(self.client):
            pipeline = self._deletion(broker_id)
            pipeline.zrem(f"{self.namespace}:__heartbeats__", broker_id)
            pipeline.execute()

    def delete_fetched(self) -> None:
        """Delete what this worker has fetched, nothing of which it has in hand any more.

        Raises:
            StoreError: it may have been deleted, or not.
        """
        with translated(self.client):
            self._deletion(self.broker_id).execute()

    def _deletion(self, broker_id: str) -> Any:
        ids = cast("set[bytes]", self.client.smembers(self._acks(broker_id)))
        pipeline = self.client.pipeline(transaction=True)
        if ids:
            pipeline.hdel(self._messages(), *ids)
        pipeline.delete(self._acks(broker_id))
        return pipeline

    def _acks(self, broker_id: str) -> str:
        return f"{self.namespace}:__acks__.{broker_id}.{QUEUE}"

    def _messages(self) -> str:
        return f"{self.namespace}:{QUEUE}.msgs"
