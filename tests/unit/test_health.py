"""What a worker reports of endpoints and the ways there, and which events spend no attempt for it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from msgspec import structs

from rlm.core.endpoint import Endpoint, Limit
from rlm.delivery import health
from rlm.delivery.health import NOTE_SECONDS, HealthKeeper
from rlm.delivery.outcome import Answered, Delivered, Throttled, Unreachable
from rlm.ledger.breaker import Failed
from rlm.ledger.claims import Admitted
from rlm.ledger.ways import Trouble
from tests.clocks import SetClock

ENDPOINT = Endpoint("api", "http://127.0.0.1:1/", Limit.parse("9/minute"), 10.0)
OTHER = Endpoint("other", "http://127.0.0.1:2/", Limit.parse("9/minute"), 10.0)
SENT = Unreachable("no answer", None, "no answer in time")
UNSENT = Unreachable("refused", None, "connection refused", unsent=True)


class Store:
    """Records its calls; `trouble` is the result of a failure."""

    def __init__(self):
        self.trouble = Trouble(of_host=False)
        self.told = []
        self.breaker = SimpleNamespace(
            fail=lambda endpoint, **_: self.told.append("endpoint") or Failed(0),
            reopen=lambda endpoint: bool(self.told.append("reopen")),
            rest=lambda endpoint, seconds: self.told.append("rest") or seconds,
        )
        self.windows = SimpleNamespace(block=lambda *_args, **_options: self.told.append("block"))
        self.ways = self

    def fail(self, _endpoint, _host, failure, _endpoints):
        self.told.append("way")
        self.failure = failure
        return self.trouble

    def open(self, endpoint, _host):
        self.told.append(f"open {endpoint.name}")
        return False, ""


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def clock(monkeypatch):
    clock = SetClock()
    monkeypatch.setattr(health, "system_clock", clock)
    return clock


@pytest.fixture
def told(store, clock):
    return HealthKeeper(store, "host", 3)


def answered(outcome, endpoint=ENDPOINT, *, suspect=False, stale=False):
    times = {"waited_seconds": 0.0, "idle_seconds": 0.0}
    slot = Admitted("1", suspect=suspect)
    return Answered(endpoint, slot, None, outcome, **times, late=False, counts_from=None, cut=False, stale=stale)


@pytest.mark.parametrize(
    ("outcome", "shut_seconds", "excused"), [(UNSENT, 0, True), (UNSENT, 1, True), (SENT, 0, False), (SENT, 1, True)]
)
def test_the_trouble_of_a_host_costs_no_attempt_unless_the_event_may_be_to_blame(
    store, told, outcome, shut_seconds, excused
):
    """One that was sent and is never answered, while others are, must run out of attempts."""
    store.trouble = Trouble(of_host=True, shut_seconds=shut_seconds)

    assert told.fail(ENDPOINT, outcome) == excused
    assert store.told == ["way"]


def test_the_trouble_of_an_endpoint_is_counted_there_and_costs_an_attempt(store, told):
    """As ever."""
    assert not told.fail(ENDPOINT, UNSENT)
    assert store.told == ["way", "endpoint"]


def test_a_way_that_is_shut_is_known_without_asking(store, told, clock):
    """Until its rest is over."""
    store.trouble = Trouble(of_host=True, shut_seconds=2.0)
    told.fail(ENDPOINT, SENT)

    assert not told.reaches(ENDPOINT)
    assert told.reaches(OTHER)
    clock.time += 2.0
    assert told.reaches(ENDPOINT)


def test_answers_are_noted_now_and_then(store, told, clock):
    """And at once after a failure anywhere, so that streaks end. Those that complete events are with these."""
    good, throttled = Delivered(200, 0.1), Throttled(503, 0.1, 1.0)
    told.report(answered(good), others=False)
    assert store.told == []
    for _ in range(3):
        told.report(answered(throttled), others=False)
    assert store.told == ["open api", *["rest"] * 3]
    clock.time += NOTE_SECONDS
    told.report(answered(throttled), others=False)
    assert store.told[-2:] == ["open api", "rest"]
    clock.time += 0.1
    told.fail(OTHER, UNSENT)
    store.told.clear()
    clock.time += 0.1

    told.report(answered(good), others=False)

    assert store.told == ["open api"]


@pytest.mark.parametrize("outcome", [SENT, Unreachable("HTTP 500", 0.1, "HTTP 500"), Delivered(200, 0.1)])
def test_an_answer_that_came_after_the_lease_says_nothing_of_the_endpoint(store, told, outcome):
    """A host that was frozen would rest endpoints with what was true long ago. Only its slot is kept true."""
    assert told.report(answered(outcome, stale=True, suspect=True), others=False)

    assert set(store.told) <= {"block"}


def test_a_call_that_the_deadline_cut_says_nothing_of_the_endpoint(store, told):
    """The run is over, however long the endpoint would have taken. Only its slot is kept true."""
    assert not told.report(structs.replace(answered(SENT), cut=True), others=False)

    assert store.told == ["block"]
