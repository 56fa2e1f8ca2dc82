"""The Dramatiq broker: messages only wake lanes, and consumers sleep until they are woken.

A message may be lost, doubled or late without harm, because the ledger decides. So there are no retries, no delays and
no results here, and an acknowledgement that cannot be made is no reason to stop a lane.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import Empty, PriorityQueue
from typing import Any, Final, cast
from uuid import uuid4

import redis
from dramatiq import Message
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ConnectionClosed

from actors.messages import QUEUE, fits, read_message, read_newer
from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.ledger.connect import make_client, translated
from rlm.telemetry.logs import Bounded

#: An idle consumer looks for itself after this many seconds, in case a wake-up was lost: with its connection, without
#: either end being told. Whoever conducts wakes again while messages wait.
IDLE_SECONDS = 10.0
#: How often a lane looks whether it is to end, once all are, seconds.
_ENDING_SECONDS = 0.01
#: Minimum seconds between two log lines about dropped messages.
_QUIET_SECONDS: Final = 60.0

log = logging.getLogger(__name__)


class LaneQueue(PriorityQueue[Any]):
    """Where lanes wait for their next message, asleep: a stock worker wakes each of its threads all the time."""

    def __init__(self) -> None:
        super().__init__()
        self._closed = False

    def close(self) -> None:
        """Let nobody wait any more."""
        with self.mutex:
            self._closed = True
            self.not_empty.notify_all()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: ARG002  # it is the queue that says when
        """Return the next message, or raise Empty if there is none and it is closed, or who asks does not `block`."""
        with self.not_empty:
            if block:
                self.not_empty.wait_for(lambda: self._qsize() or self._closed)
            if block and not self._qsize():
                self.not_empty.wait(_ENDING_SECONDS)
            if not self._qsize():
                raise Empty
            return self._get()


class WakingBroker(RedisBroker):
    """A Redis broker without delay queues, whose consumers wait to be woken instead of polling.

    A consumer that lost Redis leaves to its successor: which messages are `held`, by identity, in the lanes or on their
    way there; whether there is something to fetch (`woken`); whether to end (`stopping`); and the bound on log lines
    about `dropped` messages.
    """

    def __init__(self, url: str, namespace: str) -> None:
        # Without maintenance: what a dead worker has fetched is deleted by who frees it.
        super().__init__(client=make_client(url), middleware=[], namespace=namespace, maintenance_chance=0)  # type: ignore[no-untyped-call]
        self.woken = threading.Event()
        self.stopping = threading.Event()
        self.held: set[int] = set()
        self.dropped = Bounded(_QUIET_SECONDS)
        #: Whether a version with a schema works here: its messages are left to it, those of any other are dropped.
        self.has_worked: Callable[[int], bool] = lambda _schema: False

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue without its delay queue: nothing is ever delayed, and one consumer fewer polls."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> WakefulConsumer:  # noqa: ARG002  # dramatiq's signature
        """Return a consumer that sleeps until `wake` while there is nothing to fetch, or nobody to hand it to."""
        self.put_back_left()
        self.wake()  # it looks at once
        return WakefulConsumer(self, prefetch)

    def wake(self) -> None:
        """Wake the consumers: there are messages."""
        self.woken.set()

    def stop_fetching(self) -> None:
        """Fetch no more: the worker is about to stop."""
        self.stopping.set()
        self.woken.set()

    def enqueue_many(self, messages: Iterable[Message[Any]]) -> None:
        """Enqueue messages in one round trip; after a StoreError it is not known whether they were."""
        with translated(self.client):
            pipeline = self.client.pipeline(transaction=True)  # else a message without its id in the queue stays
            for message in messages:
                # As the stock script enqueues, but without its heartbeat: whoever only produces is no worker.
                message_id = str(uuid4())
                sealed = message.copy(options={"redis_message_id": message_id})
                pipeline.hset(self._messages, message_id, sealed.encode())
                pipeline.rpush(f"{self.namespace}:{QUEUE}", message_id)
            pipeline.execute()  # which asks nothing of Redis if there is none

    def count_waiting(self) -> int:
        """Count the messages that no worker has fetched."""
        with translated(self.client):
            return self.client.llen(f"{self.namespace}:{QUEUE}")

    def forget(self, broker_id: str) -> None:
        """Delete what a worker that has ended had fetched, and its heartbeat: others are woken for what is released."""
        with translated(self.client):
            pipeline = self._deletion(broker_id)
            pipeline.zrem(f"{self.namespace}:__heartbeats__", broker_id)
            pipeline.execute()

    def delete_fetched(self) -> None:
        """Delete what this worker has fetched and not in hand; after a StoreError it is not known whether it was."""
        with translated(self.client):
            self._deletion(self.broker_id).execute()

    def leave(self, message_id: str) -> None:
        """Put a fetched message aside for workers of a newer version, which look there as they begin to consume.

        Raises:
            StoreError: whether it was put aside is not known; it is deleted with the others when this worker ends.
        """
        with translated(self.client):
            pipeline = self.client.pipeline(transaction=True)
            pipeline.srem(self._acks(self.broker_id), message_id)
            pipeline.rpush(self._left(), message_id)
            pipeline.execute()

    def put_back_left(self) -> None:
        """Put the messages back that others have left: this worker may be of the version that can read them."""
        with suppress(redis.RedisError):  # the next one that begins to consume does
            for _ in range(self.client.llen(self._left())):
                self.client.rpoplpush(self._left(), f"{self.namespace}:{QUEUE}")

    def _left(self) -> str:
        return f"{self.namespace}:{QUEUE}.newer"

    def _deletion(self, broker_id: str) -> Any:
        ids = cast("set[bytes]", self.client.smembers(self._acks(broker_id)))
        pipeline = self.client.pipeline(transaction=True)
        if ids:
            pipeline.hdel(self._messages, *ids)
        pipeline.delete(self._acks(broker_id))
        return pipeline

    def _acks(self, broker_id: str) -> str:
        return f"{self.namespace}:__acks__.{broker_id}.{QUEUE}"

    @property
    def _messages(self) -> str:
        return f"{self.namespace}:{QUEUE}.msgs"


class WakefulConsumer(Consumer):
    """Hands out messages; sleeps if there is none, or nobody to hand it to; drops what RLM did not write.

    Dramatiq's own consumer hands out whatever can be decoded: a message that names another queue would end the lane
    that takes it, one for a far day would be waited for, and each would take up the room of a real one.
    """

    def __init__(self, broker: WakingBroker, prefetch: int) -> None:
        self._broker = broker
        self._prefetch = prefetch
        self._fetched: deque[bytes | None] = deque()
        self._littered = False

    def __next__(self) -> MessageProxy | None:
        """Return the next message, or None to let the thread look around."""
        if not self._fetched:
            self._fetch()
        return self._take() if self._fetched else None

    def _fetch(self) -> None:
        """Fetch as many messages as there is room for; sleep if there is none."""
        stopping, wake = self._broker.stopping, self._broker.woken
        if stopping.is_set():
            threading.Event().wait(0.01)  # the thread is about to be told to end
            return
        woken = wake.is_set()
        wake.clear()
        room = self._prefetch - len(self._broker.held)
        if room > 0:
            try:
                if woken or self._broker.client.llen(f"{self._broker.namespace}:{QUEUE}"):
                    self._fetched.extend(self._broker.do_fetch(QUEUE, room))
            except redis.RedisError as error:  # time-outs and refusals would end the thread
                raise ConnectionClosed(error) from error  # type: ignore[no-untyped-call]
        if not self._fetched:
            self._tidy()
            if not stopping.is_set():
                wake.wait(system_clock.to_beat(IDLE_SECONDS))

    def _take(self) -> MessageProxy | None:
        data = self._fetched.popleft()
        message = read_message(data)
        if message is None or not self._is_ours(message):
            if not self._leave(data):
                self._drop()
            return None
        proxy = MessageProxy(message)
        self._broker.held.add(id(proxy))
        return proxy

    def _is_ours(self, message: Message[Any]) -> bool:
        actor = self._broker.actors.get(message.actor_name)
        return actor is not None and fits(actor.fn, message.args)

    def _leave(self, data: bytes | None) -> bool:
        """Leave a message of a newer version to its workers; return False if it is none."""
        message_id, schema = read_newer(data)
        with suppress(StoreError):  # if it is left or dropped matters little: it only wakes
            if message_id and self._broker.has_worked(schema):
                self._broker.leave(message_id)
                return True
        return False

    def _drop(self) -> None:
        """Pass a message over. It stays fetched until nothing else is, since its id may be that of another."""
        self._littered = True
        left_out = self._broker.dropped.admit(QUEUE)
        if left_out is not None:
            more = f", and {left_out} more since this was last said" if left_out else ""
            log.warning("A message that is none of RLM's is dropped%s", more, extra={"action": "drop_message"})

    def _tidy(self) -> None:
        """Delete what was dropped: with nothing in hand, it is all that is fetched."""
        if self._littered and not self._broker.held:
            with suppress(StoreError):  # tried again, and deleted when this worker ends at the latest
                self._broker.delete_fetched()
                self._littered = False

    def ack(self, message: MessageProxy) -> None:
        """Acknowledge a message. While Redis is away it stays fetched; it is deleted when this worker ends."""
        try:
            self._broker.do_ack(QUEUE, message.options["redis_message_id"])
        except redis.RedisError as error:
            log.info("A message could not be acknowledged, which does no harm: %s", error, extra={"action": "ack"})
        finally:
            self._broker.held.discard(id(message))
            self._broker.wake()

    def nack(self, message: MessageProxy) -> None:
        """Acknowledge a failed message too: its event is in the ledger."""
        self.ack(message)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Put messages back that no lane has begun."""
        held = list(messages)
        if not held:
            return
        try:
            self._broker.do_requeue(QUEUE, *(message.options["redis_message_id"] for message in held))
        except redis.RedisError as error:
            log.info("%d messages could not be put back: %s", len(held), error, extra={"action": "requeue"})
        finally:
            self._broker.held.difference_update(map(id, held))

    def close(self) -> None:
        """Close nothing: the connection is the broker's."""
