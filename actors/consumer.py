"""The consumer of the queue: sleeps until it is woken, and outlives any trouble with Redis and any message."""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import redis
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.errors import ConnectionClosed

from actors.messages import QUEUE, fits, read_message
from rlm.core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dramatiq import Message

    from actors.broker import ClaimCheckBroker

#: An idle consumer looks for itself after this many seconds, should a wake-up have been lost.
IDLE_SECONDS = 5.0

log = logging.getLogger(__name__)


class WakefulConsumer(Consumer):
    """Hands out claim checks; sleeps where there is none, or nobody to hand it to; drops what RLM did not write.

    Not dramatiq's own: that hands out whatever can be decoded, and a message that names another queue would end the
    lane that takes it, one for a far day would be waited for, and each of them would take up the room of a real one.
    """

    def __init__(self, broker: ClaimCheckBroker, prefetch: int) -> None:
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
        """Fetch as many messages as there is room for; where that is none, sleep."""
        stopping, wake = self._broker.stopping, self._broker.woken
        if stopping.is_set():
            threading.Event().wait(0.01)  # the thread is about to be told to end
            return
        wake.clear()
        room = self._prefetch - len(self._broker.held)
        if room > 0:
            try:
                self._fetched.extend(self._broker.do_fetch(QUEUE, room))
            except redis.RedisError as error:  # time-outs and refusals would end the thread
                raise ConnectionClosed(error) from error  # type: ignore[no-untyped-call]
        if not self._fetched:
            self._tidy()
            if not stopping.is_set():
                wake.wait(IDLE_SECONDS)

    def _take(self) -> MessageProxy | None:
        message = read_message(self._fetched.popleft())
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
        """Pass a message over; it stays fetched until nothing else is, for what it calls itself may be another's."""
        self._littered = True
        left_out = self._broker.dropped.admit(QUEUE)
        if left_out is not None:
            more = f", and {left_out} more since this was last said" if left_out else ""
            log.warning("A message that is none of RLM's is dropped%s", more, extra={"action": "drop_message"})

    def _tidy(self) -> None:
        """Delete what was dropped: with nothing in hand, it is all that is fetched."""
        if self._littered and not self._broker.held:
            with suppress(StoreError):  # it is tried again, and goes when this worker does
                self._broker.delete_fetched()
                self._littered = False

    def ack(self, message: MessageProxy) -> None:
        """Acknowledge a message. Where Redis is away it stays fetched, and goes when this worker does."""
        try:
            self._broker.do_ack(QUEUE, message.options["redis_message_id"])
        except redis.RedisError as error:
            log.info("A message could not be acknowledged, which does no harm: %s", error, extra={"action": "ack"})
        finally:
            self._broker.held.discard(id(message))
            self._broker.wake()

    def nack(self, message: MessageProxy) -> None:
        """Treat a failed message as done: the event it stood for is in the ledger."""
        self.ack(message)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Put messages back that no lane has begun. Where Redis is away their releases become void by themselves."""
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
