"""One call: when it leaves, what keeps it from being sent, and from when its slot counts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rlm.core.endpoint import Endpoint, EventType, Limit
from rlm.core.errors import StoreUnreachableError
from rlm.delivery import attempt
from rlm.delivery.attempt import Caller, Kind
from rlm.delivery.http import Answer
from rlm.ledger import values
from rlm.ledger.turns import Claim
from rlm.ledger.values import RedisClock
from rlm.settings.model import RunSettings
from tests.clocks import SetClock

GUARD, TIMEOUT = 0.5, 10.0
#: A call must leave within this many seconds of its stamp.
LEAVES = 0.4 * GUARD


class Scene:
    """A call that needs half a second, and everything around it: by default quick, over a kept connection."""

    def __init__(self, clock):
        self.clock = clock
        self.kept, self.connecting, self.sending, self.answering = True, 0.0, 0.0, 0.1
        self.owned, self.restamping, self.away = True, 0.0, False
        self.sent, self.put_back_to, self.restamps = [], [], []

    def make(self, *, window=60.0, asked=0.0, item=b"{}", endpoint="a", **changes):
        began = self.clock.time
        redis = RedisClock(GUARD)
        redis.hear(began, self.us(began), began)
        times = {"deadline_us": self.us(began + window), "call_us": 100_000, "need_us": 500_000}
        usual = {"attempt": 0, "tries": 0, "runs": 0, "worker_id": "here:1:w", "run_id": "r", "wallet_name": "w"}
        usual |= {"event_id": "i:T"}
        claim = Claim(number=1, endpoint=endpoint, stamp=self.us(began), item=item, **times, **usual | changes)
        settings = SimpleNamespace(
            event_types=[
                EventType(kind, 1, 0.5, (Endpoint("a", "http://a:1", Limit.parse("9/minute"), seconds),))
                for kind, seconds in (("T", TIMEOUT), ("OTHER", 2 * TIMEOUT))
            ],
            run=RunSettings(guard_seconds=GUARD),
            retry=SimpleNamespace(max_attempts=3, max_runs=5),
        )
        self.began = began
        store = SimpleNamespace(settings=settings, turns=self, clock=redis)
        return Caller(store, self).make(claim, began - asked)

    @staticmethod
    def us(moment):
        return round(moment * 1_000_000)

    # The connections, and the turns.

    def connect(self, url, _seconds, *, fresh):
        self.clock.sleep(self.connecting)
        return SimpleNamespace(url=url, kept=self.kept and not fresh, send=self.send, receive=self.receive)

    def put_back(self, connection):
        self.put_back_to.append(connection.url)

    def send(self, data, _deadline):
        self.request = data
        self.clock.sleep(self.sending)
        self.sent.append(pytest.approx(self.clock.time - self.began))

    def receive(self, deadline):
        answers_at = self.clock.time + self.answering
        self.clock.time = min(answers_at, deadline)
        if answers_at >= deadline:
            raise TimeoutError
        answer = Answer()
        answer.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        return answer

    def restamp(self, _claim):
        self.clock.sleep(self.restamping)
        if self.away:
            raise StoreUnreachableError("away", "start it")
        self.restamps.append(pytest.approx(self.clock.time - self.began))
        return self.us(self.clock.time) if self.owned else 0


@pytest.fixture
def scene(monkeypatch):
    clock = SetClock()
    monkeypatch.setattr(attempt, "system_clock", clock)
    monkeypatch.setattr(values, "system_clock", clock)
    return Scene(clock)


def is_unsent(settlement):
    return settlement.to == "ready" and not settlement.sent and settlement.finish is None


def test_over_a_kept_connection_it_leaves_at_once_and_counts_from_its_stamp(scene):
    settlement = scene.make()

    assert (scene.sent, scene.restamps) == ([0.0], [])
    assert (settlement.to, settlement.sent, settlement.counts_us) == ("completed", True, None)


def test_the_attempt_of_a_request_counts_over_all_runs(scene):
    scene.make(attempt=4, tries=1)

    assert b'"attempt":5,' in scene.request


def test_without_one_it_connects_first_and_counts_from_then(scene):
    scene.kept, scene.connecting = False, 0.7

    settlement = scene.make()

    assert (scene.restamps, scene.sent) == ([0.7], [0.7])
    assert settlement.stamp == scene.us(scene.began + 0.7)


def test_an_event_that_failed_before_goes_over_a_new_connection(scene):
    scene.make(tries=1)

    assert len(scene.restamps) == 1


def test_a_call_that_cannot_leave_within_its_share_of_the_guard_is_given_back(scene):
    assert is_unsent(scene.make(asked=LEAVES + 0.01))
    assert (scene.sent, scene.put_back_to) == ([], ["http://a:1"])


def test_so_is_one_whose_event_is_the_lanes_no_longer_or_if_nobody_knows(scene):
    scene.kept = False
    for scene.owned, scene.away in ((False, False), (True, True)):
        assert is_unsent(scene.make())

    assert (scene.sent, scene.put_back_to) == ([], ["http://a:1"] * 2)


def test_so_is_one_that_no_longer_fits_before_the_deadline_once_it_is_connected(scene):
    scene.kept, scene.connecting = False, 0.6

    assert is_unsent(scene.make(window=1.0))
    assert (scene.sent, scene.put_back_to) == ([], ["http://a:1"])


def test_a_damaged_event_is_a_dead_letter_that_says_nothing_of_its_endpoint(scene):
    settlement = scene.make(item=b"")

    assert (settlement.to, settlement.sent, settlement.health, scene.sent) == ("failed", False, "", [])
    assert "damaged in the ledger" in settlement.letter


@pytest.mark.parametrize("step", ["connect", "receive"])
def test_after_a_fault_its_slot_counts_from_now_and_an_attempt_is_spent(scene, step):
    """Otherwise a fault in reading answers would call an endpoint as fast as lanes can."""
    setattr(scene, step, None)  # is called all the same

    settlement = scene.make()

    assert (settlement.to, settlement.sent, settlement.counts_us) == ("backoff", True, 0)
    assert settlement.tried


def test_a_call_that_left_late_is_stamped_anew(scene):
    scene.sending = LEAVES + 0.05

    settlement = scene.make()

    assert scene.restamps == [LEAVES + 0.05]
    assert (settlement.stamp, settlement.counts_us) == (scene.us(scene.began + LEAVES + 0.05), None)


def test_if_redis_is_away_then_it_counts_from_its_answer(scene):
    scene.sending, scene.away = LEAVES + 0.05, True

    assert scene.make().counts_us == 0


def test_a_call_without_an_answer_counts_from_when_its_connection_was_closed(scene):
    scene.answering = 99.0

    settlement = scene.make()

    assert (settlement.counts_us, settlement.to) == (0, "backoff")
    assert scene.clock.time - scene.began == pytest.approx(TIMEOUT)


def test_a_shared_endpoint_is_called_as_the_events_own_type_says(scene):
    scene.answering = 99.0

    scene.make(event_id="i:OTHER")

    assert scene.clock.time - scene.began == pytest.approx(2 * TIMEOUT)


def test_a_call_whose_answer_shows_that_it_was_read_late_counts_from_then(scene):
    """It usually takes 0.1 s, and may be read the guard later."""
    scene.answering = 2.0

    assert scene.make().counts_us == pytest.approx(600_000)


def test_a_call_is_awaited_until_the_deadline_and_then_says_nothing_of_its_endpoint(scene):
    scene.answering = 99.0

    settlement = scene.make(window=3.0)

    assert scene.clock.time - scene.began == pytest.approx(3.0)
    assert (settlement.to, settlement.health, settlement.kind) == ("backoff", "", Kind.DEADLINE)
