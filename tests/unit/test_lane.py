"""How long a lane may hold an event: no call is begun that does not fit, none is under way when its lease ends."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rlm.core.endpoint import Endpoint, EventType, Limit
from rlm.delivery import Delivered, Unreachable, attempt, effects, lane
from rlm.delivery.attempt import LEASE_SLACK_SECONDS
from rlm.delivery.lane import Lanes
from rlm.ledger.events import Claim, Release
from rlm.ledger.windows import Admitted, Failed, Refused

FIRST, SECOND = "first", "second"
TIMEOUT = 10.0


class Clock:
    """Stands until somebody waits."""

    def __init__(self):
        self.time = 1000.0

    def monotonic(self):
        return self.time

    def sleep(self, seconds):
        self.time += seconds


class Ledger:
    """Hands out one claim, and takes down what becomes of it and when."""

    def __init__(self, clock, claim):
        self._clock = clock
        self._claim = claim
        self.settled = []

    def claim(self, *_args, lease_seconds, **_options):
        self.lease_ends = self._clock.time + lease_seconds
        return self._claim

    def __getattr__(self, verb):
        return lambda *_args, **_options: not self.settled.append((verb, self._clock.time))


class Api:
    """The windows and the dispatcher: how long each step takes at each endpoint, and which windows are shut."""

    def __init__(self, clock):
        self._clock = clock
        self.connecting, self.asking, self.answering, self.shut = {}, {}, {}, set()
        self.opened = False
        self.slots, self.given_back, self.kept, self.sent = [], [], [], []

    def connect(self, endpoint, _seconds):
        self._clock.sleep(self.connecting.get(endpoint.name, 0))
        return endpoint.name

    def keep(self, _endpoint, connection):
        self.kept.append(connection)

    def acquire(self, endpoint, _call):
        self._clock.sleep(self.asking.get(endpoint.name, 0))
        if endpoint.name in self.shut:
            return Refused(60)
        self.slots.append(endpoint.name)
        return Admitted("1")

    def give_back(self, endpoint, _slot, _call):
        self.given_back.append(endpoint.name)

    def send(self, connection, _endpoint, _request, _deadline):
        self.sent.append((connection, self._clock.time))

    def receive(self, connection, _endpoint, sent_at, deadline):
        answers_at = sent_at + self.answering.get(connection, 0)
        self._clock.time = min(answers_at, deadline)
        if answers_at < deadline:
            return Delivered(200, self._clock.time - sent_at)
        return Unreachable("no answer", None, "no answer in time")

    def fail(self, _endpoint, **_options):
        return Failed(1.0, opened=self.opened)

    def __getattr__(self, _verb):
        return lambda *_args, **_options: None


class Scene:
    """One lane, and an event whose calls need `needs` seconds, `remaining` seconds before the deadline."""

    def __init__(self, clock):
        self.clock = clock
        self.api = Api(clock)

    def carry(self, *, needs=0.5, remaining=60.0):
        endpoints = tuple(
            Endpoint(name, f"http://127.0.0.1:1/{name}", Limit.parse("9/minute"), TIMEOUT) for name in (FIRST, SECOND)
        )
        release = Release("i:T", "run", 1)
        self.ledger = Ledger(self.clock, Claim(release, "w", remaining, "wallet", b"{}", FIRST, 0, 0, 0, ""))
        settings = SimpleNamespace(
            event_types=[EventType("T", 1, needs, endpoints)],
            run=SimpleNamespace(guard_seconds=0.5),
            retry=SimpleNamespace(max_attempts=3, max_runs=5),
            revision="r",
        )
        self.began = self.clock.time
        store = SimpleNamespace(ledger=self.ledger, windows=self.api)
        Lanes(store, settings, self.api, "w").carry(release)

    @property
    def sent(self):
        """The calls: where, how long after the claim."""
        return [(name, pytest.approx(at - self.began)) for name, at in self.api.sent]

    @property
    def settled(self):
        """How the event was settled."""
        ((verb, at),) = self.ledger.settled
        assert at < self.ledger.lease_ends
        return verb


@pytest.fixture
def scene(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(lane, "system_clock", clock)
    monkeypatch.setattr(attempt, "system_clock", clock)
    monkeypatch.setattr(effects, "system_clock", clock)
    return Scene(clock)


def test_a_call_ends_before_the_lease_whatever_came_before_it(scene):
    """A slow connection to an endpoint that is full, then an answer too late for what is left of the lease."""
    scene.api.connecting = {FIRST: 3.0}
    scene.api.shut = {FIRST}
    scene.api.answering = {SECOND: 9.5}

    scene.carry()

    assert scene.sent == [(SECOND, 3.0)]
    assert scene.settled == "retry"
    assert scene.clock.time <= scene.ledger.lease_ends - LEASE_SLACK_SECONDS / 2


def test_a_call_has_its_whole_time_out_where_nothing_came_before_it(scene):
    """The lease is made for that."""
    scene.api.answering = {FIRST: TIMEOUT - 0.01}

    scene.carry()

    assert scene.settled == "complete"


def test_an_event_that_the_lease_is_too_short_for_by_now_is_given_back(scene):
    """Nothing is sent and no attempt spent: the connection is kept for the next time."""
    scene.api.connecting = {FIRST: 7.0}
    scene.api.shut = {FIRST}

    scene.carry(needs=5.0)

    assert (scene.sent, scene.settled) == ([], "give_back")
    assert scene.api.kept == [FIRST]


def test_a_type_that_needs_longer_than_its_time_out_is_sent_all_the_same(scene):
    """No call lasts longer than its time-out, so no lease is too short for it from the start."""
    scene.api.answering = {FIRST: 1.0}

    scene.carry(needs=3 * TIMEOUT)

    assert scene.settled == "complete"


def test_a_call_that_no_longer_fits_once_connected_is_not_begun(scene):
    """The time to connect counts; no slot is asked for, and the other endpoint has its chance."""
    scene.api.connecting = {FIRST: 0.9}

    scene.carry(needs=0.5, remaining=1.0)

    assert (scene.sent, scene.api.slots, scene.settled) == ([], [], "give_back")
    assert scene.api.kept == [FIRST]


def test_a_call_that_still_fits_once_connected_is_begun(scene):
    """To the last moment."""
    scene.api.connecting = {FIRST: 0.4}

    scene.carry(needs=0.5, remaining=1.0)

    assert (scene.sent, scene.settled) == ([(FIRST, 0.4)], "complete")


def test_a_slot_that_comes_too_late_for_the_deadline_is_given_back(scene):
    """Asking for it took what was left."""
    scene.api.asking = {FIRST: 0.15}
    scene.api.connecting = {FIRST: 0.4}

    scene.carry(needs=0.5, remaining=1.0)

    assert (scene.sent, scene.settled) == ([], "give_back")
    assert scene.api.given_back == scene.api.slots == [FIRST]


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (
            Unreachable("no connection to host:80: refused", None, "connection refused"),
            "no connection to host:80: refused; it",
        ),
        (Unreachable("HTTP 500: no such wallet_001", 0.1, "HTTP 500"), "HTTP 500; it rests"),
    ],
)
def test_an_endpoint_that_comes_to_rest_is_told_with_what_it_said_last(scene, caplog, outcome, told):
    """So that who reads the log knows what to look at; but never what an answer holds, which may be an item."""
    scene.api.opened = True
    scene.api.receive = lambda *_args: outcome

    scene.carry()

    (record,) = [one for one in caplog.records if one.levelname == "WARNING"]
    assert f"first failed 5 times in a row, the last time with: {told}" in record.getMessage()
    assert "wallet" not in record.getMessage()


@pytest.mark.parametrize(
    ("others", "then"), [(True, "the others take its share"), (False, "its events wait until it is over")]
)
def test_a_rest_is_told_of_once_for_the_calls_that_were_under_way(scene, caplog, others, then):
    """And no share is promised to others where there are none."""
    caplog.set_level("INFO", logger="rlm.delivery.effects")
    resting = Endpoint("0", "http://127.0.0.1:1/", Limit.parse("9/minute"), TIMEOUT)
    rests = effects.Rests()

    for _ in range(3):
        rests.tell(resting, 10.0, others=others)
    scene.clock.sleep(10.0)
    rests.tell(resting, 10.0, others=others)

    assert [record.message for record in caplog.records] == [f"0 asked for a rest of 10.0 s; {then}"] * 2
