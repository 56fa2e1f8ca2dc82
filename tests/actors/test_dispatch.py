"""The dispatch actor: it calls `carry` with the run; on Dramatiq's stub first, then on the real broker."""

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
from rlm.ledger.connect import make_client
from tests.actors.stubstore import StubStore
from tests.each import each
from tests.wait import wait_until

RUN = "20231114T221320250Z-0a1b"


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
    broker = WakingBroker(StubStore(url, namespace))
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


def test_a_message_reaches_the_lane_as_it_was_sent(broker):
    """The run, and nothing else."""
    carried = []
    messages.declare(broker, messages.DISPATCH, carried.append)
    with working(broker):
        send(broker, messages.message_for(messages.DISPATCH, RUN))
        wait_until(lambda: carried, message="it was carried")

    assert carried == [RUN]


def test_a_lane_that_fails_takes_nothing_with_it(broker):
    """An exception out of a lane ends with its message: the next one is carried, none is sent again."""
    carried = []

    def carry(run_id):
        carried.append(run_id)
        if run_id == "r1":
            raise RuntimeError("oops")

    messages.declare(broker, messages.DISPATCH, carry)
    with working(broker):
        send(broker, messages.message_for(messages.DISPATCH, "r1"))
        send(broker, messages.message_for(messages.DISPATCH, "r2"))
        wait_until(lambda: "r2" in carried, message="the second was carried")

    assert sorted(carried) == ["r1", "r2"]


def test_both_actors_live_on_one_queue(broker):
    """A message goes to the actor it names."""
    carried, closed = [], []
    messages.declare(broker, messages.DISPATCH, carried.append)
    messages.declare(broker, messages.LEFTOVERS, closed.append)
    with working(broker):
        send(broker, messages.message_for(messages.DISPATCH, RUN))
        send(broker, messages.message_for(messages.LEFTOVERS, "r1"))
        wait_until(lambda: carried and closed, message="both arrived")

    assert (carried, closed) == ([RUN], ["r1"])
    assert set(broker.actors) == {messages.DISPATCH, messages.LEFTOVERS}


def test_a_message_names_the_run_and_no_more():
    """No payload ever stands in the broker, and no event."""
    message = messages.message_for(messages.DISPATCH, RUN)

    written = json.loads(message.encode())
    assert written.pop("message_id")
    assert written.pop("message_timestamp")
    assert written == {
        "queue_name": QUEUE,
        "actor_name": "dispatch_events",
        "args": [RUN],
        "kwargs": {},
        "options": {},
    }


def sealed(**changes):
    """Return a message as the broker writes it, except these changes."""
    return messages.message_for(messages.DISPATCH, RUN).copy(options={"redis_message_id": "m"}, **changes)


def test_a_message_is_read_back():
    """As the broker wrote it."""
    message = sealed()

    assert messages.read_message(message.encode()) == message


@each("args", [("r",), ("a b",), (RUN, "more"), (), ("x" * 400,)])
def test_texts_are_what_a_message_may_hold(args):
    """How many of them its actor takes is another matter."""
    assert messages.read_message(sealed(args=args).encode()).args == args


@each("args", [(7,), (RUN, 7), (None,), ([],), (True,), ("x" * 401,), ("\u202e",), ("\n",), ("x" * 5000,)])
def test_what_no_message_of_ours_holds_is_none(args):
    """Numbers among it: a version before this one wrote a number with an event, which nobody carries now."""
    assert messages.read_message(sealed(args=args).encode()) is None


@each(
    ("args", "takes"),
    [((RUN,), True), ((), False), ((RUN, RUN), False), ((7,), False), ((RUN, "i:T", 7), False)],
)
def test_only_a_run_fits_either_actor(args, takes):
    """What another version's actor took is not handed to this one's."""
    broker = StubBroker(middleware=[])
    messages.declare(broker, messages.DISPATCH, lambda _run_id: None)
    messages.declare(broker, messages.LEFTOVERS, lambda _run_id: None)

    for name in (messages.DISPATCH, messages.LEFTOVERS):
        assert messages.fits(broker.actors[name].fn, args) is takes
