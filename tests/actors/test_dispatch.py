"""The dispatch actor: a claim check in, `carry` called with it; on Dramatiq's stub first, then on the real broker."""

from __future__ import annotations

import json
from contextlib import contextmanager
from uuid import uuid4

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker

from actors import messages
from actors.broker import WakingBroker
from actors.messages import QUEUE
from rlm.ledger.claims import ClaimCheck
from rlm.ledger.connect import make_client
from tests.each import each
from tests.wait import wait_until

RELEASE = ClaimCheck("item-1:REBALANCE_NEEDED", "20231114T221320250Z-0a1b", 7)


@pytest.fixture(params=["stub", "redis"])
def broker(request):
    """A broker of each kind."""
    if request.param == "stub":
        broker = StubBroker(middleware=[])
        broker.emit_after("process_boot")
        yield broker
        broker.flush_all()
        broker.close()
        return
    url = request.getfixturevalue("valkey_only_url")
    namespace = f"t{uuid4().hex[:8]}:dramatiq"
    broker = WakingBroker(url, namespace)
    yield broker
    broker.client.close()
    with make_client(url) as client:
        for key in client.scan_iter(match=f"{namespace}*", count=1000):
            client.delete(key)


def send(broker, message):
    if isinstance(broker, WakingBroker):
        broker.enqueue_many([message])
        broker.wake()
    else:
        broker.enqueue(message)


@contextmanager
def working(broker):
    worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=20)
    worker.start()
    try:
        yield
    finally:
        if isinstance(broker, WakingBroker):
            broker.stop_fetching()
        worker.stop()


def test_a_release_reaches_the_lane_as_it_was_sent(broker):
    """Event, run and number, and nothing else."""
    carried = []
    messages.declare_dispatch(broker, carried.append)
    with working(broker):
        send(broker, messages.dispatch_message(RELEASE))
        wait_until(lambda: carried, message="it was carried")

    assert carried == [RELEASE]


def test_a_lane_that_fails_takes_nothing_with_it(broker):
    """An exception out of a lane ends with its message: the next one is carried, none is sent again."""
    carried = []

    def carry(release):
        carried.append(release.number)
        if release.number == 1:
            raise RuntimeError("oops")

    messages.declare_dispatch(broker, carry)
    with working(broker):
        send(broker, messages.dispatch_message(ClaimCheck("i:T", "r", 1)))
        send(broker, messages.dispatch_message(ClaimCheck("i:T", "r", 2)))
        wait_until(lambda: 2 in carried, message="the second was carried")

    assert sorted(carried) == [1, 2]


def test_both_actors_live_on_one_queue(broker):
    """A message goes to the actor it names."""
    carried, closed = [], []
    messages.declare_dispatch(broker, carried.append)
    messages.declare_leftovers(broker, closed.append)
    with working(broker):
        send(broker, messages.dispatch_message(RELEASE))
        send(broker, messages.leftovers_message("r1"))
        wait_until(lambda: carried and closed, message="both arrived")

    assert (carried, closed) == ([RELEASE], ["r1"])
    assert set(broker.actors) == {messages.DISPATCH, messages.LEFTOVERS}


def test_a_message_is_a_claim_check_and_no_more():
    """No payload ever stands in the broker: three arguments, all of them ids and numbers."""
    message = messages.dispatch_message(RELEASE)

    written = json.loads(message.encode())
    assert written.pop("message_id")
    assert written.pop("message_timestamp")
    assert written == {
        "queue_name": QUEUE,
        "actor_name": "dispatch_event",
        "args": ["item-1:REBALANCE_NEEDED", "20231114T221320250Z-0a1b", 7],
        "kwargs": {},
        "options": {},
    }


def test_a_message_is_read_back():
    """What a dead worker had fetched is found by it."""
    assert messages.read_release(dramatiq.Message.decode(messages.dispatch_message(RELEASE).encode())) == RELEASE


@each("args", [(), ("i:T", "r"), ("i:T", "r", "7"), (1, "r", 7), ("i:T", None, 7), ("i:T", "r", 7, "more")])
def test_what_is_no_claim_check_of_ours_reads_as_none(args):
    """Another actor's message, or another version's, frees nothing and breaks nothing."""
    message = messages.dispatch_message(RELEASE)

    assert messages.read_release(message.copy(args=args)) is None
    assert messages.read_release(message.copy(actor_name="another")) is None
    assert messages.read_release(messages.leftovers_message("r1")) is None
