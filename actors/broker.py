"""The Dramatiq broker: messages are claim checks, and consumers sleep until they are woken.

A message may be lost, doubled or late without harm, because the ledger decides. So there are no retries, no delays and
no results here, and an acknowledgement that cannot be made is no reason to stop a lane.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import redis
from dramatiq import Message
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ConnectionClosed, DecodeError

from rlm.store.connect import make_client, translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: The one queue: dispatches, and the end of a run.
QUEUE = "rlm"
#: An idle consumer looks for itself after this many seconds, should a wake-up have been lost.
IDLE_SECONDS = 5.0

#: Milliseconds the stock consumer may sleep after an empty fetch: we do the waiting.
_INNER_TIMEOUT_MS = 1

log = logging.getLogger(__name__)


class ClaimCheckBroker(RedisBroker):
    """A Redis broker without delay queues, whose consumers wait to be woken instead of polling."""

    def __init__(self, url: str, namespace: str) -> None:
        super().__init__(client=make_client(url), middleware=[], namespace=namespace)  # type: ignore[no-untyped-call]
        self._wake = threading.Event()
        self._stopping = threading.Event()

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue without its delay queue: nothing is ever delayed, and a consumer less polls."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:  # noqa: ARG002  # dramatiq's signature
        """Return a consumer that sleeps until `wake` where there is nothing to fetch, or nobody to hand it to."""
        inner = super().consume(queue_name, prefetch, _INNER_TIMEOUT_MS)
        return WakefulConsumer(inner, self._wake, self._stopping)

    def wake(self) -> None:
        """Wake the consumers: there are messages."""
        self._wake.set()

    def stop_fetching(self) -> None:
        """Fetch no more: the worker is about to stop."""
        self._stopping.set()
        self._wake.set()

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
        return [message for message in map(_decode, data) if message is not None]

    def forget(self, broker_id: str) -> None:
        """Delete what a worker that has ended had fetched, and its heartbeat: its claim checks are void."""
        with translated(self.client):
            ids = cast("set[bytes]", self.client.smembers(self._acks(broker_id)))
            pipeline = self.client.pipeline(transaction=True)
            if ids:
                pipeline.hdel(self._messages(), *ids)
            pipeline.delete(self._acks(broker_id))
            pipeline.zrem(f"{self.namespace}:__heartbeats__", broker_id)
            pipeline.execute()

    def _acks(self, broker_id: str) -> str:
        return f"{self.namespace}:__acks__.{broker_id}.{QUEUE}"

    def _messages(self) -> str:
        return f"{self.namespace}:{QUEUE}.msgs"


def _decode(data: bytes | None) -> Message[Any] | None:
    try:
        return None if data is None else Message.decode(data)
    except DecodeError:
        return None


class WakefulConsumer(Consumer):
    """Wraps the stock consumer: sleeps until woken where that would poll, and survives any trouble with Redis."""

    def __init__(self, inner: Consumer, wake: threading.Event, stopping: threading.Event) -> None:
        self._inner: Any = inner
        self._wake = wake
        self._stopping = stopping

    def __next__(self) -> MessageProxy | None:
        """Return the next message, or None to let the thread look around."""
        if self._inner.message_cache:
            return self._next()
        if self._stopping.is_set():
            threading.Event().wait(0.01)  # the thread is about to be told to end
            return None
        self._wake.clear()
        if self._inner.outstanding_message_count < self._inner.prefetch:
            try:
                message = self._next()
            except redis.RedisError as error:  # the stock one lets time-outs and refusals end its thread
                raise ConnectionClosed(error) from error  # type: ignore[no-untyped-call]
            if message is not None or self._inner.message_cache:
                return message
        if not self._stopping.is_set():
            self._wake.wait(IDLE_SECONDS)
        return None

    def _next(self) -> MessageProxy | None:
        try:
            return cast("MessageProxy | None", next(self._inner))
        except DecodeError as error:  # the stock one would forget those fetched with it
            log.warning("A message that cannot be read is passed over: %s", error, extra={"action": "fetch"})
            return None

    def ack(self, message: MessageProxy) -> None:
        """Acknowledge a message. Where Redis is away it stays fetched, and goes when this worker does."""
        try:
            self._inner.ack(message)
        except (redis.RedisError, ConnectionClosed) as error:
            log.info("A message could not be acknowledged, which does no harm: %s", error, extra={"action": "ack"})
        self._wake.set()

    def nack(self, message: MessageProxy) -> None:
        """Treat a failed message as done: the event it stood for is in the ledger."""
        self.ack(message)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Put messages back that no lane has begun. Where Redis is away their releases become void by themselves."""
        held: Sequence[MessageProxy] = list(messages)
        try:
            self._inner.requeue(held)
        except redis.RedisError as error:
            log.info("%d messages could not be put back: %s", len(held), error, extra={"action": "requeue"})

    def close(self) -> None:
        """Close the stock consumer."""
        self._inner.close()
