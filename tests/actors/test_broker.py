"""The broker on the real server: messages only wake lanes, consumers sleep until woken and survive any trouble."""

from __future__ import annotations

import json
import logging
import pickle
import statistics
import threading
import time
from contextlib import contextmanager, suppress
from unittest import mock
from uuid import uuid4

import dramatiq
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import DecodeError

from actors.broker import IDLE_SECONDS, WakingBroker
from actors.messages import QUEUE
from rlm.core.errors import StoreUnreachableError
from rlm.ledger.connect import make_client
from rlm.ledger.waker import Waker
from rlm.telemetry import logs
from tests.actors.stubstore import StubStore
from tests.wait import wait_until

#: Seconds until something that ought to have happened has not.
PATIENCE = 10.0
#: What does not wait for a consumer's own look is done sooner, seconds, on however busy a machine.
AT_ONCE = 5.0
ACTOR = "note"


def messages(*numbers):
    return [
        dramatiq.Message(queue_name=QUEUE, actor_name=ACTOR, args=(str(number),), kwargs={}, options={})
        for number in numbers
    ]


def forged(**fields):
    """Return a message like RLM's, except these fields."""
    (genuine,) = messages(17)
    return json.dumps({**genuine.asdict(), "options": {"redis_message_id": "r"}, **fields}).encode()


#: What another program may put into the queue. Each would end or stop a thread of dramatiq's, or hold up a place there.
FORGED = [
    *(None, b"", b"\xff", b"{", b"[]", b"17", b"null", b'{"queue_name": "rlm"}', pickle.dumps({"queue_name": QUEUE})),
    *(b"[" * 100_000, b"x" * 10_000_000, forged(more=1)),
    *(forged(queue_name=name) for name in ("another", f"{QUEUE}.DQ", "", None, 1, [])),
    *(forged(actor_name=name) for name in ("stranger", "", None, 7, [], {})),
    *(
        forged(args=args)
        for args in ([], [1, 2], ["1", "2"], [1], [1.5], [True], [None], [[]], [-1], [10**30], "17", {}, None)
    ),
    *(forged(args=[text]) for text in ("x" * 500, "\u202e", "\ud800")),
    *(forged(kwargs=kwargs) for kwargs in ({"number": 1}, [], None, "")),
    *(forged(message_id=one) for one in ([], {}, None, 1, "m" * 500, "\ud800")),
    *(forged(options=one) for one in ({}, [], None, "", {"redis_message_id": []}, {"redis_message_id": 1})),
    *(
        forged(options={"redis_message_id": "r", **more})
        for more in (
            *({"eta": None}, {"eta": 1}, {"eta": 10**15}, {"eta": "soon"}, {"throws": "x"}, {"throws": [1]}),
            *({"pipe_target": {}}, {"retries": 99}, {"on_success": ACTOR}, {"max_age": 0}, {"requeue_timestamp": []}),
        )
    ),
]


@pytest.fixture
def client(valkey_only_url):
    with make_client(valkey_only_url) as client:
        yield client


@pytest.fixture
def namespace(client):
    """A namespace of this test's own; its keys are deleted afterwards."""
    namespace = f"t{uuid4().hex[:8]}:dramatiq"
    yield namespace
    for key in client.scan_iter(match=f"{namespace}*", count=1000):
        client.delete(key)


@pytest.fixture
def make_broker(valkey_only_url, namespace):
    """Make brokers in this test's namespace, each with the actor `note`, which appends to `broker.noted`."""
    brokers = []

    def make(act=lambda _number: None):
        broker = WakingBroker(StubStore(valkey_only_url, namespace))
        broker.broker_id = f"worker-{len(brokers)}"
        broker.noted = []

        def note(text: str) -> None:
            number = int(text)
            act(number)
            broker.noted.append((number, time.monotonic()))

        dramatiq.actor(broker=broker, actor_name=ACTOR, queue_name=QUEUE)(note)
        brokers.append(broker)
        return broker

    yield make
    for broker in brokers:
        broker.client.close()


@pytest.fixture
def broker(make_broker):
    return make_broker()


@contextmanager
def working(broker, threads=2, prefetch=None):
    """Run a worker on `broker`; it must end quickly afterwards."""
    worker = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=50)
    worker.queue_prefetch = prefetch or threads + 1
    worker.start()
    try:
        yield worker
    finally:
        broker.stop_fetching()
        worker.stop(timeout=round(PATIENCE * 1000))
        assert not any(thread.is_alive() for thread in (*worker.workers, *worker.consumers.values()))


def noted(broker):
    return [number for number, _ in broker.noted]


def acks(client, namespace, broker):
    return client.scard(f"{namespace}:__acks__.{broker.broker_id}.{QUEUE}")


def fetched(client, namespace, broker):
    """Return the numbers of a broker's fetched, unacknowledged messages, except unreadable ones."""
    found = []
    for message_id in client.smembers(f"{namespace}:__acks__.{broker.broker_id}.{QUEUE}"):
        with suppress(DecodeError):
            (number,) = dramatiq.Message.decode(client.hget(f"{namespace}:{QUEUE}.msgs", message_id)).args
            found.append(int(number))
    return sorted(found)


def asleep(broker):
    """Return whether the consumer sleeps: it waits for the wake-up, which is not set."""
    return bool(broker.woken._cond._waiters) and not broker.woken.is_set()


# -- queues and messages


def test_there_is_one_queue_and_no_delay_queue(broker):
    """Nothing is ever delayed, so no consumer polls for what was, and none forgets it."""
    with working(broker) as worker:
        assert broker.get_declared_queues() == {QUEUE}
        assert broker.get_declared_delay_queues() == set()
        assert list(worker.consumers) == [QUEUE]


def test_no_middleware_retries_or_limits_anything(broker):
    """What failed is decided in the ledger, not here."""
    assert broker.middleware == []


def test_many_messages_are_enqueued_in_one_round_trip(broker, client, namespace):
    """However many, the pipeline is one; nothing is sent for none; whoever only produces leaves no heartbeat."""
    with mock.patch.object(broker.client, "pipeline", wraps=broker.client.pipeline) as pipeline:
        broker.enqueue_many([])
        broker.enqueue_many(one for one in messages(*range(500)))

    assert pipeline.call_count == 2
    assert client.llen(f"{namespace}:{QUEUE}") == client.hlen(f"{namespace}:{QUEUE}.msgs") == 500
    assert not client.exists(f"{namespace}:__heartbeats__")


def test_the_stock_consumer_reads_what_was_enqueued(broker, client, namespace):
    """The messages are Dramatiq's own, in order, and gone once they are acknowledged."""
    broker.enqueue_many(messages(1, 2, 3))
    stock = RedisBroker(client=client, namespace=namespace, middleware=[])
    stock.declare_queue(QUEUE)
    consumer = stock.consume(QUEUE, prefetch=10, timeout=1)

    received = [next(consumer) for _ in range(3)]

    assert [one.args for one in received] == [("1",), ("2",), ("3",)]
    for one in received:
        consumer.ack(one)
    assert client.keys(f"{namespace}:{QUEUE}*") == []


def test_what_the_stock_producer_enqueued_is_read(broker, client, namespace):
    """And the other way round."""
    stock = RedisBroker(client=client, namespace=namespace, middleware=[])
    for one in messages(1, 2, 3):
        stock.enqueue(one)
    with working(broker):
        broker.wake()
        wait_until(lambda: sorted(noted(broker)) == [1, 2, 3], message="all were received")


def test_a_redis_that_is_away_is_an_error_of_the_store():
    """Whoever releases must know that its messages may not have been sent."""
    broker = WakingBroker(StubStore("unix:///nowhere/valkey.sock", "t:dramatiq"))

    with pytest.raises(StoreUnreachableError):
        broker.enqueue_many(messages(1))
    with pytest.raises(StoreUnreachableError):
        broker.delete_fetched()
    with pytest.raises(StoreUnreachableError):
        broker.forget("w")


# -- sleeping and waking


def test_work_starts_at_once_after_a_wake_up(broker, valkey_only_url, client, namespace):
    """From sending to starting takes a few milliseconds, through the channel, though nobody polls."""
    channel = f"{namespace}:wake"
    waker = Waker(valkey_only_url, channel, broker.wake)
    waker.start()
    delays = []
    with working(broker):
        wait_until(lambda: client.pubsub_numsub(channel)[0][1] == 1, message="the waker listens")
        for number in range(30):
            wait_until(lambda: asleep(broker), message="the consumer sleeps")
            sent_at = time.monotonic()
            broker.enqueue_many(messages(number))
            client.publish(channel, "wake")
            wait_until(lambda number=number: len(broker.noted) == number + 1, message="the message was received")
            delays.append(broker.noted[-1][1] - sent_at)
    waker.stop()

    assert statistics.median(delays) < 0.1
    assert max(delays) < 1.0


def test_an_idle_consumer_does_not_poll(broker, client):
    """Asleep it sends no command; only every few seconds it looks, should a wake-up have been lost."""
    fetches = []
    real = broker.do_fetch
    broker.do_fetch = lambda *args: (fetches.append(time.monotonic()), real(*args))[1]
    with working(broker):
        wait_until(lambda: asleep(broker), message="the consumer sleeps")
        before = len(fetches)
        calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        slept = not wait_or_none(lambda: len(fetches) > before, 0.5)

        assert slept
        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == calls
    assert IDLE_SECONDS <= 10


def wait_or_none(condition, seconds):
    """Return the result of the condition, or None if it did not hold in time."""
    try:
        return wait_until(condition, timeout=seconds)
    except AssertionError:
        return None


def test_a_lost_wake_up_costs_latency_only(broker):
    """A message that nobody told of is found by the consumer's own look."""
    with mock.patch("actors.broker.IDLE_SECONDS", 0.2), working(broker):
        wait_until(lambda: asleep(broker), message="the consumer sleeps")
        broker.enqueue_many(messages(1))

        wait_until(lambda: noted(broker) == [1], timeout=AT_ONCE, message="the message was found")


def test_a_wake_up_between_looking_and_sleeping_is_not_lost(broker):
    """A message that comes just after an empty fetch wakes the consumer all the same."""
    real, pushed = broker.do_fetch, []

    def fetch(*args):
        found = real(*args)
        if not found and not pushed:
            pushed.append(1)
            broker.enqueue_many(messages(1))
            broker.wake()
        return found

    broker.do_fetch = fetch
    with working(broker):
        wait_until(lambda: noted(broker) == [1], timeout=AT_ONCE, message="it was received at once")


# -- prefetch


def test_no_more_is_fetched_than_is_allowed_and_nothing_waits_for_a_poll(make_broker, client, namespace):
    """Two lanes and one in reserve: never more than three are fetched, and each one done makes room at once."""
    go = threading.Semaphore(0)
    broker = make_broker(lambda _number: go.acquire(timeout=PATIENCE))
    broker.enqueue_many(messages(*range(20)))
    with working(broker, threads=2, prefetch=3):
        wait_until(lambda: acks(client, namespace, broker) == 3, message="it has fetched what it may")
        wait_until(lambda: asleep(broker), message="full, the consumer sleeps")
        began = time.monotonic()
        for done in range(1, 21):
            go.release()
            wait_until(lambda done=done: len(broker.noted) == done, message="one more is done")
            assert acks(client, namespace, broker) <= 3

    assert time.monotonic() - began < IDLE_SECONDS
    assert sorted(noted(broker)) == list(range(20))
    assert acks(client, namespace, broker) == 0


def test_two_workers_share_what_there_is(make_broker, client, namespace):
    """What one may not fetch is the other's: lanes are busy on both."""
    go = threading.Event()
    first, second = make_broker(lambda _number: go.wait(PATIENCE)), make_broker(lambda _number: go.wait(PATIENCE))
    first.enqueue_many(messages(*range(6)))
    with working(first, threads=2, prefetch=3), working(second, threads=2, prefetch=3):
        for broker in (first, second):
            broker.wake()
        wait_until(lambda: acks(client, namespace, first) and acks(client, namespace, second), message="both have some")
        go.set()
        wait_until(lambda: len(first.noted) + len(second.noted) == 6, message="all are done")

    assert len(first.noted) == len(second.noted) == 3


# -- stopping


def test_a_stopping_worker_fetches_no_more(make_broker, client, namespace):
    """From `stop_fetching` on what is in the queue stays there, whoever wakes; what is in hand is finished."""
    go = threading.Event()
    broker = make_broker(lambda _number: go.wait(PATIENCE))
    broker.enqueue_many(messages(1))
    with working(broker, threads=1, prefetch=2):
        wait_until(lambda: acks(client, namespace, broker) == 1, message="it has one in hand")
        wait_until(lambda: asleep(broker), message="the consumer sleeps")
        broker.stop_fetching()
        broker.enqueue_many(messages(2, 3))
        broker.wake()
        assert wait_or_none(lambda: client.llen(f"{namespace}:{QUEUE}") < 2, 0.2) is None
        go.set()
        wait_until(lambda: noted(broker) == [1], message="what it had is done")

    assert client.llen(f"{namespace}:{QUEUE}") == 2
    assert acks(client, namespace, broker) == 0


def test_a_sleeping_worker_stops_at_once(broker):
    """Nobody waits for a sleeper: a stop takes no longer than a lane's look around."""
    with working(broker):
        wait_until(lambda: asleep(broker), message="the consumer sleeps")
        began = time.monotonic()

    assert time.monotonic() - began < AT_ONCE


def test_what_no_lane_has_begun_goes_back_at_a_stop(make_broker, client, namespace):
    """The message in reserve is put back for others."""
    go = threading.Event()
    broker = make_broker(lambda _number: go.wait(PATIENCE))
    broker.enqueue_many(messages(1, 2))
    with working(broker, threads=1, prefetch=2) as worker:
        wait_until(lambda: acks(client, namespace, broker) == 2, message="it has fetched two")
        wait_until(lambda: worker.work_queue.qsize() == 1, message="one waits for the lane")
        worker.workers[0].running = False  # the lane leaves after what it has in hand
        go.set()
        wait_until(lambda: noted(broker) == [1], message="what it had is done")

    assert noted(broker) == [1]
    assert client.llen(f"{namespace}:{QUEUE}") == 1
    assert acks(client, namespace, broker) == 0


# -- trouble


ERRORS = [
    redis.ConnectionError("gone"),
    redis.TimeoutError("no answer"),
    redis.ResponseError("OOM command not allowed"),
    redis.ReadOnlyError("READONLY"),
    redis.BusyLoadingError("loading"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_no_error_of_redis_ends_the_consumer(broker, monkeypatch, error):
    """A fetch that fails, however, is tried again by the same thread, and the messages come."""
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.02)
    real, failures = broker.do_fetch, []

    def fetch(*args):
        if len(failures) < 3:
            failures.append(1)
            raise error
        return real(*args)

    broker.do_fetch = fetch
    broker.enqueue_many(messages(1, 2))
    with working(broker) as worker:
        (consumer,) = worker.consumers.values()
        wait_until(lambda: sorted(noted(broker)) == [1, 2], message="the messages came")

        assert len(failures) == 3
        assert consumer.is_alive()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_acknowledgement_that_fails_holds_no_lane_up(make_broker, error, caplog):
    """The ledger knows already: the lane goes on to the next message at once, with a word in the log."""
    caplog.set_level("INFO")
    broker = make_broker()
    broker.do_ack = mock.Mock(side_effect=error)
    broker.enqueue_many(messages(1, 2, 3))
    with working(broker, threads=1, prefetch=2):
        wait_until(lambda: noted(broker) == [1, 2, 3], timeout=AT_ONCE, message="all were done at once")

    assert "could not be acknowledged, which does no harm" in caplog.text


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_messages_that_cannot_be_put_back_are_no_trouble(broker, error, caplog):
    """At a stop without Redis they are lost, which costs latency only: another lane is woken for what is released."""
    caplog.set_level("INFO")
    broker.enqueue_many(messages(1))
    consumer = broker.consume(QUEUE, prefetch=2)
    message = next(consumer)
    broker.do_requeue = mock.Mock(side_effect=error)

    consumer.requeue([message])
    consumer.close()

    assert "1 messages could not be put back" in caplog.text


def test_an_actor_that_fails_takes_nothing_with_it(make_broker, client, namespace):
    """An exception in a lane is logged by Dramatiq; its message is done, not moved to a list of dead ones."""

    def act(number):
        if number == 1:
            raise RuntimeError("oops")

    broker = make_broker(act)
    broker.enqueue_many(messages(1, 2))
    with working(broker, threads=1):
        wait_until(lambda: noted(broker) == [2], message="the next was done")
        wait_until(lambda: acks(client, namespace, broker) == 0, message="both are acknowledged")

    assert client.keys(f"{namespace}:{QUEUE}*") == []


def test_a_message_for_an_actor_that_is_not_there_is_dropped(broker, client, namespace):
    """Another version's message is acknowledged and kept nowhere."""
    stranger = dramatiq.Message(queue_name=QUEUE, actor_name="stranger", args=(), kwargs={}, options={})
    broker.enqueue_many([stranger, *messages(1)])
    with working(broker):
        wait_until(lambda: noted(broker) == [1], message="the next was done")
        wait_until(lambda: acks(client, namespace, broker) == 0, message="both are acknowledged")

    assert client.keys(f"{namespace}:{QUEUE}*") == []


def poison(client, namespace, data, message_id=""):
    """Put something into the queue that is not a message of RLM; None: only an id."""
    message_id = message_id or str(uuid4())
    if data is not None:
        client.hset(f"{namespace}:{QUEUE}.msgs", message_id, data)
    client.rpush(f"{namespace}:{QUEUE}", message_id)


@pytest.mark.parametrize("data", FORGED, ids=range(len(FORGED)))
def test_a_forged_message_ends_no_thread_and_strands_no_other(broker, client, namespace, data, caplog):
    """Between others it is dropped, with one word in the log; those fetched with it are done, and those after it."""
    broker.enqueue_many(messages(1))
    for _ in range(4):
        poison(client, namespace, data)
    broker.enqueue_many(messages(2, 3))
    with working(broker, threads=1, prefetch=2) as worker:
        (consumer,) = worker.consumers.values()
        wait_until(lambda: noted(broker) == [1, 2, 3], timeout=AT_ONCE, message="the others were done at once")
        broker.enqueue_many(messages(4))
        broker.wake()
        wait_until(lambda: noted(broker)[3:] == [4], timeout=AT_ONCE, message="a later one was done at once")
        wait_until(
            lambda: not client.keys(f"{namespace}:{QUEUE}*") and not client.keys(f"{namespace}:__acks__*"),
            message="nothing is left of them",
        )

        assert consumer.is_alive()
        assert all(lane.is_alive() for lane in worker.workers)
    assert [one.message for one in caplog.records if one.levelname != "DEBUG"] == [
        "A message that is not RLM's is dropped"
    ]


def test_what_is_in_hand_is_not_deleted_with_what_was_dropped(make_broker, client, namespace):
    """A forged message stays fetched until nothing else is, whatever it calls itself."""
    go = threading.Event()
    broker = make_broker(lambda _number: go.wait(PATIENCE))
    poison(client, namespace, b"{")
    broker.enqueue_many(messages(1))
    with working(broker, threads=1, prefetch=2):
        wait_until(lambda: broker.held and asleep(broker), message="one is in hand, and the consumer sleeps")
        assert fetched(client, namespace, broker) == [1]
        go.set()
        wait_until(lambda: acks(client, namespace, broker) == 0, message="all are gone")


# -- what a dead worker leaves


def test_what_a_dead_worker_had_fetched_is_forgotten(make_broker, client, namespace):
    """By its name: the messages it had not acknowledged, and no others; no trace of it is left."""
    dead, living = make_broker(), make_broker()
    living.enqueue_many(messages(1, 2, 3, 4, 5))
    consumer = dead.consume(QUEUE, prefetch=3)
    consumer.ack(next(consumer))
    other = living.consume(QUEUE, prefetch=1)
    assert next(other).args == ("4",)

    assert fetched(client, namespace, dead) == [2, 3]
    living.forget("worker-0")

    assert acks(client, namespace, dead) == 0
    assert fetched(client, namespace, living) == [4]
    assert client.llen(f"{namespace}:{QUEUE}") == 1
    assert client.hlen(f"{namespace}:{QUEUE}.msgs") == 2
    assert client.zrange(f"{namespace}:__heartbeats__", 0, -1) == [b"worker-1"]


def test_forgetting_a_worker_that_had_nothing_is_no_trouble(broker, client, namespace):
    """Twice, or one that never was."""
    broker.enqueue_many(messages(1))
    broker.forget("nobody")
    broker.forget("nobody")

    assert client.llen(f"{namespace}:{QUEUE}") == client.hlen(f"{namespace}:{QUEUE}.msgs") == 1


def test_a_dead_worker_that_had_fetched_what_cannot_be_read_is_forgotten_all_the_same(make_broker, client, namespace):
    """No message may keep a supervisor from going on."""
    dead, living = make_broker(), make_broker()
    living.enqueue_many(messages(1))
    poison(client, namespace, b"\xff{")
    living.enqueue_many(messages(2))
    next(dead.consume(QUEUE, prefetch=3))

    assert fetched(client, namespace, dead) == [1, 2]
    living.forget("worker-0")

    assert not client.exists(f"{namespace}:{QUEUE}.msgs")


def test_a_consumer_without_redis_tries_again_and_logs_no_error(monkeypatch, capsys):
    """What dramatiq says of each try would go to Sentry twice a second; RLM tells of the outage by itself."""
    monkeypatch.setattr(dramatiq.worker, "CONSUMER_RESTART_DELAY_SECS", 0.01)
    tries = []
    broker = WakingBroker(StubStore("redis://127.0.0.1:1", "nobody"))
    consume = broker.consume
    monkeypatch.setattr(broker, "consume", lambda *args, **options: tries.append(1) or consume(*args, **options))
    dramatiq.actor(broker=broker, actor_name=ACTOR, queue_name=QUEUE)(lambda: None)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    level = root.level
    logs.set_up("worker")
    try:
        with working(broker):
            wait_until(lambda: len(tries) > 2, timeout=PATIENCE, message="it tries again")
    finally:
        root.setLevel(level)

    assert "connection error" not in capsys.readouterr().err
