"""The Dramatiq broker: messages only wake lanes, and consumers sleep until they are woken.

A message may be lost, doubled or late without harm, because the ledger decides. So there are no retries, no delays and
no results here, and a failed acknowledgement does not stop a lane.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from queue import Empty, PriorityQueue
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import uuid4

import redis
from dramatiq import Message
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ConnectionClosed

from actors.messages import QUEUE, fits, read_message
from rlm.core.clock import system_clock
from rlm.core.errors import StoreError
from rlm.ledger.connect import translated
from rlm.telemetry.logs import Bounded

if TYPE_CHECKING:
    from rlm.ledger import Store

#: Seconds after which an idle consumer looks for messages unasked. A wake-up is lost with its connection, and neither
#: end notices. The conductor wakes consumers again while messages wait.
IDLE_SECONDS = 10.0
#: Seconds between two looks of a lane whether it is to end, once all lanes are to end.
_ENDING_SECONDS = 0.01
#: Minimum seconds between two log lines about dropped messages.
_QUIET_SECONDS: Final = 60.0

log = logging.getLogger(__name__)


class LaneQueue(PriorityQueue[Any]):
    """Where lanes sleep until their next message; a stock worker wakes each of its threads all the time."""

    def __init__(self) -> None:
        super().__init__()
        self._closed = False

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self.mutex:
            self._closed = True
            self.not_empty.notify_all()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: ARG002  # the queue decides how long
        """Return the next message; raise Empty if there is none and the queue is closed or `block` is False."""
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

    It keeps what a consumer that lost Redis passes to its successor: the identities of the messages `held` in lanes or
    on their way there, `woken` (there may be messages), `stopping`, and the limit on log lines about dropped messages.
    """

    def __init__(self, store: Store) -> None:
        """Keep messages in the Redis of `store`, over its connections."""
        # No maintenance: what a dead worker has fetched is deleted by the process that frees it.
        names = {"namespace": store.keys.dramatiq, "maintenance_chance": 0}
        super().__init__(client=store.client, middleware=[], **names)  # type: ignore[no-untyped-call]
        self.woken = threading.Event()
        self.stopping = threading.Event()
        self.held: set[int] = set()
        self.dropped = Bounded(_QUIET_SECONDS)

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue without its delay queue: nothing is ever delayed, and one consumer fewer polls."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> WakefulConsumer:  # noqa: ARG002  # dramatiq's signature
        """Return a consumer that sleeps until `wake` if there are no messages or no lane is free."""
        self.wake()  # the first fetch does not sleep
        return WakefulConsumer(self, prefetch)

    def wake(self) -> None:
        """Wake the consumers: there are messages."""
        self.woken.set()

    def stop_fetching(self) -> None:
        """Stop fetching: the worker is about to stop."""
        self.stopping.set()
        self.woken.set()

    def enqueue_many(self, messages: Iterable[Message[Any]]) -> None:
        """Enqueue messages in one round trip; after a StoreError it is not known whether they were."""
        with translated(self.client):
            pipeline = self.client.pipeline(transaction=True)  # otherwise a message could stay unqueued
            for message in messages:
                # Like the stock script, but without a heartbeat: a producer is not a worker.
                message_id = str(uuid4())
                sealed = message.copy(options={"redis_message_id": message_id})
                pipeline.hset(self._messages, message_id, sealed.encode())
                pipeline.rpush(f"{self.namespace}:{QUEUE}", message_id)
            pipeline.execute()  # no round trip without messages

    def count_waiting(self) -> int:
        """Count the messages that no worker has fetched."""
        with translated(self.client):
            return self.client.llen(f"{self.namespace}:{QUEUE}")

    def forget(self, broker_id: str) -> None:
        """Delete a dead worker's fetched messages and its heartbeat; released calls get messages of their own."""
        with translated(self.client):
            pipeline = self._deletion(broker_id)
            pipeline.zrem(f"{self.namespace}:__heartbeats__", broker_id)
            pipeline.execute()

    def delete_fetched(self) -> None:
        """Delete this worker's unacknowledged messages; after a StoreError it is unknown whether they were deleted."""
        with translated(self.client):
            self._deletion(self.broker_id).execute()

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
    """Hands out messages; sleeps if there is none or no lane is free; drops messages that RLM did not write.

    Dramatiq's own consumer hands out whatever it can decode. A message that names another queue would end its lane, a
    delayed one would be waited for, and each would take the place of a real message.
    """

    def __init__(self, broker: WakingBroker, prefetch: int) -> None:
        self._broker = broker
        self._prefetch = prefetch
        self._fetched: deque[bytes | None] = deque()
        self._littered = False

    def __next__(self) -> MessageProxy | None:
        """Return the next message, or None to let Dramatiq's thread check whether it is to end."""
        if not self._fetched:
            self._fetch()
        return self._take() if self._fetched else None

    def _fetch(self) -> None:
        """Fetch as many messages as lanes can take; sleep if there is none."""
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
            except redis.RedisError as error:  # a time-out or refusal would end the thread
                raise ConnectionClosed(error) from error  # type: ignore[no-untyped-call]
        if not self._fetched:
            self._tidy()
            if not stopping.is_set():
                wake.wait(system_clock.to_beat(IDLE_SECONDS))

    def _take(self) -> MessageProxy | None:
        data = self._fetched.popleft()
        message = read_message(data)
        if message is None or not self._is_ours(message):
            self._drop()
            return None
        proxy = MessageProxy(message)
        self._broker.held.add(id(proxy))
        return proxy

    def _is_ours(self, message: Message[Any]) -> bool:
        actor = self._broker.actors.get(message.actor_name)
        return actor is not None and fits(actor.fn, message.args)

    def _drop(self) -> None:
        """Skip a message. It stays fetched until no other is, because another message may have the same id."""
        self._littered = True
        left_out = self._broker.dropped.admit(QUEUE)
        if left_out is not None:
            more = f", and {left_out} more since this was last logged" if left_out else ""
            log.warning("A message that is not RLM's is dropped%s", more, extra={"action": "drop_message"})

    def _tidy(self) -> None:
        """Delete dropped messages, if no message is in hand: then they are all that is fetched."""
        if self._littered and not self._broker.held:
            with suppress(StoreError):  # tried again; the end of this worker deletes them at the latest
                self._broker.delete_fetched()
                self._littered = False

    def ack(self, message: MessageProxy) -> None:
        """Acknowledge a message. If Redis is away it stays fetched, and is deleted when this worker ends."""
        try:
            self._broker.do_ack(QUEUE, message.options["redis_message_id"])
        except redis.RedisError as error:
            log.info("A message could not be acknowledged, which does no harm: %s", error, extra={"action": "ack"})
        finally:
            self._broker.held.discard(id(message))
            self._broker.wake()

    def nack(self, message: MessageProxy) -> None:
        """Acknowledge a failed message too: the ledger has its event."""
        self.ack(message)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Put back messages that no lane has begun."""
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
        """Do nothing: the connection belongs to the broker."""
