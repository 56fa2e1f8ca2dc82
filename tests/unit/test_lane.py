"""The lanes of a worker process: who asks and when, the numbers of asks, and what a stop gives back."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from rlm.core.call import CallEnd
from rlm.core.clock import system_clock
from rlm.core.errors import StoreUnreachableError
from rlm.delivery import lane
from rlm.delivery.attempt import Kind
from rlm.delivery.lane import Lanes
from rlm.ledger.turns import Claim, Settlement, TurnReply
from rlm.ledger.values import RedisClock
from rlm.settings import load_settings
from tests.wait import wait_until

FAR = 3600.0


def reply(**fields):
    """Return an answer of Redis now."""
    return TurnReply(now=time.time_ns() // 1000, **fields)


def call(number=1):
    times = {"stamp": 1, "deadline_us": time.time_ns() // 1000, "call_us": 0, "need_us": 0}
    counts = {"attempt": 0, "tries": 0, "runs": 0}
    of = {"endpoint": "a", "run_id": "r", "wallet_name": "w", "worker_id": "here:1:w"}
    return reply(call=Claim(f"i{number}:T", 1, **of, **times, **counts))


def waits(seconds=FAR):
    return reply(wait=round(seconds * 1_000_000))


# Lanes.


class Turns:
    """Answers asks as a test says, and notes them."""

    def __init__(self):
        self.asks = []
        self.answer = lambda _ask: waits()
        self.lock = threading.Lock()

    def take(self, ask):
        with self.lock:
            self.asks.append(ask)
        return self.answer(ask)

    def script(self, *answers):
        """Answer so, one after the other, and then with a wait."""
        left = list(answers)

        def answer(ask):
            with self.lock:
                made = left.pop(0) if left else waits()
            made = made(ask) if callable(made) else made
            if isinstance(made, Exception):
                raise made
            return made

        self.answer = answer


class Scene:
    """The lanes of a worker without a network: calls are settled as completed, or as `make` says."""

    def __init__(self, monkeypatch):
        self.turns = Turns()
        self.made, self.recorded = [], []
        self.make = lambda _claim: None
        scene = self

        def make(_caller, claim, asked_at):
            scene.made.append(claim.event_id)
            scene.asked_at = asked_at
            made = Settlement(claim.event_id, claim.number, claim.endpoint, claim.stamp, "completed", sent=True)
            return scene.make(claim) or made

        monkeypatch.setattr(lane.Caller, "make", make)
        monkeypatch.setattr(lane, "AGAIN_SECONDS", 0.001)
        client, settings = SimpleNamespace(keeping_connection=nullcontext), load_settings(None, {})
        store = SimpleNamespace(turns=self.turns, clock=RedisClock(0.5), client=client, settings=settings)
        self.lanes = Lanes(store, None, "here:1:w", self.recorded.append)
        self.threads = []

    def start(self, number=1):
        for _ in range(number):
            self.threads.append(threading.Thread(target=self.lanes.carry))
            self.threads[-1].start()

    def asked(self, number):
        """Wait until so many asks were made, and no more follow at once; return them."""
        wait_until(lambda: len(self.turns.asks) >= number)
        time.sleep(0.03)
        assert len(self.turns.asks) == number, self.turns.asks
        return self.turns.asks

    def end(self):
        self.lanes.gate.stop()
        for thread in self.threads:
            thread.join(5)
            assert not thread.is_alive()


@pytest.fixture
def scene(monkeypatch):
    scene = Scene(monkeypatch)
    yield scene
    scene.end()


def test_one_idle_lane_asks_for_all(scene):
    scene.start(8)
    wait_until(scene.lanes.gate.asking.locked)
    time.sleep(0.05)
    before = len(scene.turns.asks)

    scene.lanes.gate.wake()

    scene.asked(before + 1)
    assert before <= 9


def test_an_answer_that_was_lost_is_asked_for_again_by_the_same_number(scene):
    lost = StoreUnreachableError("away", "start it")
    scene.turns.script(lost, lost, call(1), lost, waits())

    scene.start()

    asks = scene.asked(5)
    assert [ask.n for ask in asks] == [1, 1, 1, 2, 2]
    assert [ask.settle and ask.settle.event_id for ask in asks] == [None] * 3 + ["i1:T"] * 2


def test_the_slot_of_a_call_whose_answer_was_lost_counts_from_the_first_ask(scene):
    """Redis took it then: a call that left as late as the second answer would reach its server too late."""
    first = []

    def lost(_ask):
        first.append(system_clock.monotonic())
        return StoreUnreachableError("away", "start it")

    scene.turns.script(lost, call(1))

    scene.start()

    scene.asked(3)
    assert scene.asked_at <= first[0]


def test_after_a_doubt_it_asks_again_with_the_new_epoch_and_a_new_number_and_settles_once(scene):
    scene.turns.script(call(1), reply(epoch="7"), call(2), waits())

    scene.start()

    asks = scene.asked(4)
    assert [(ask.n, ask.epoch, bool(ask.settle)) for ask in asks] == [
        (1, "", False),
        (2, "", True),
        (3, "7", False),
        (4, "7", True),
    ]


def test_an_answer_to_an_ask_of_before_a_wake_up_says_nothing(scene):
    def woken(_ask):
        scene.lanes.gate.wake()
        return waits()

    scene.turns.script(woken)
    began = time.monotonic()

    scene.start()

    scene.asked(2)
    assert time.monotonic() < began + 3.0


def test_a_call_that_comes_after_the_stop_is_given_back(scene):
    def late(_ask):
        scene.lanes.gate.stop()
        return call(1)

    scene.turns.script(late, reply(nothing=True))
    scene.start()
    scene.end()

    first, second = scene.turns.asks
    assert (first.nothing, second.nothing) == (False, True)
    assert (second.settle.event_id, second.settle.to, second.settle.sent) == ("i1:T", "ready", False)
    assert scene.made == []


def test_a_lane_that_is_to_stop_settles_by_a_turn_that_asks_for_nothing(scene):
    scene.make = lambda _claim: scene.lanes.gate.stop()
    scene.turns.script(call(1), reply(nothing=True))

    scene.start()
    scene.end()

    assert [(ask.nothing, ask.settle and ask.settle.to) for ask in scene.turns.asks] == [
        (False, None),
        (True, "completed"),
    ]


def test_a_lane_that_hears_close_has_the_run_closed_until_it_is(scene):
    scene.turns.answer = lambda _ask: reply(close="r")

    scene.start(5)

    wait_until(lambda: scene.recorded)
    time.sleep(0.1)
    assert scene.recorded == ["r"]
    wait_until(lambda: len(scene.recorded) == 2)


def test_a_worker_that_reaches_no_endpoint_that_others_reach_sleeps_until_it_can_connect(scene, monkeypatch):
    """A slot that it took to see whether it can would be missed elsewhere."""
    monkeypatch.setattr(lane, "SLEEP_SECONDS", 0.05)
    tries, reaches = itertools.count(), threading.Event()
    monkeypatch.setattr(lane.Caller, "reaches_any", lambda _caller: bool(next(tries) and reaches.is_set()))
    unreached = Settlement(
        "i:T", 1, "a", 1, "backoff", finish=CallEnd.ERROR, unconnected=True, kind="connection refused"
    )
    unanswered = replace(unreached, sent=True, unconnected=False, kind=Kind.NO_ANSWER)  # on a kept connection
    ends = itertools.cycle([unreached, unanswered])
    scene.make = lambda _claim: next(ends)

    def answer(ask):
        if ask.nothing:
            return waits()
        return call(1) if ask.settle is None else reply(elsewhere=ask.settle.unconnected, call=call(2).call)

    scene.turns.answer = answer
    scene.start()

    wait_until(lambda: scene.lanes.sleeping)
    assert "connection refused" in scene.lanes.sleeping
    wait_until(lambda: next(tries) > 3)
    before = len(scene.made)
    time.sleep(0.1)
    assert len(scene.made) == before

    reaches.set()
    wait_until(lambda: len(scene.made) > before)
