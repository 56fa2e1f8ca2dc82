"""How long a lane may hold an event: no call begins that does not fit, none is in flight when its lease ends."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from msgspec import structs

from rlm.core.endpoint import Endpoint, EventType, Limit
from rlm.core.window import WindowState
from rlm.delivery import attempt, health, lane
from rlm.delivery.attempt import LEASE_SLACK_SECONDS
from rlm.delivery.connection import UnreachableError
from rlm.delivery.lane import Lanes
from rlm.delivery.outcome import Delivered, Unreachable
from rlm.ledger.breaker import Failed
from rlm.ledger.claims import Admitted, Claim, LaneId, Refused, Turn
from rlm.ledger.ways import Trouble
from tests.clocks import SetClock

FIRST, SECOND = "first", "second"
TIMEOUT = 10.0


class Ledger:
    """Returns its claims, one per turn, and records what happens to them and when."""

    def __init__(self, clock, lease_seconds, *claims):
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._claims = list(claims)
        self.settled = []
        self.turns = []
        self.reached = []
        self.probes = []
        self.turn_seconds = 0.0

    def take(self, _lane, _run_id, completed, reached, *, with_slot):
        self.reached.append(reached)
        self.turns.append((with_slot, completed is not None))
        if completed:
            self.complete(completed)
        if self.probes:
            return Turn(settled=True, why="probe", probe=self.probes.pop(0))
        if not self._claims:
            return Turn(settled=True, why="none")
        self.lease_ends = self._clock.time + self._lease_seconds
        self._clock.sleep(self.turn_seconds)
        return Turn(settled=True, claim=self._claims.pop(0))

    def complete(self, _completed):
        self.settled.append(("complete", self._clock.time))
        return True

    def __getattr__(self, verb):
        return lambda *_args, **_options: not self.settled.append((verb, self._clock.time))


class Kept:
    """A connection."""

    def __init__(self, name):
        self.name = name


class Api:
    """The windows and the dispatcher: the time of each step at each endpoint, and which windows are shut."""

    def __init__(self, clock):
        self._clock = clock
        self.connecting, self.asking, self.answering, self.shut, self.failing = {}, {}, {}, set(), set()
        self.opened, self.shut_seconds = False, 60.0
        self.unreachable = set()
        self.slots, self.given_back, self.kept, self.sent = [], [], [], []
        self.in_doubt = False

    def connect(self, endpoint, _seconds, **_how):
        self._clock.sleep(self.connecting.get(endpoint.name, 0))
        return Kept(endpoint.name)

    def reach(self, endpoint):
        self._clock.sleep(self.connecting.get(endpoint.name, 0))
        if endpoint.name in self.unreachable:
            raise UnreachableError("no connection", "no answer in time")

    def keep(self, _endpoint, connection):
        self.kept.append(connection.name)

    def look(self, limited):
        shut = {name: WindowState(0, self.shut_seconds) for name in self.shut} | dict.fromkeys(
            self.failing, WindowState(1, suspect=True)
        )
        return 0, {one.name: shut.get(one.name, WindowState(1)) for one in limited}

    def acquire(self, endpoint, _call):
        self._clock.sleep(self.asking.get(endpoint.name, 0))
        if endpoint.name in self.shut:
            return Refused(self.shut_seconds)
        self.slots.append(endpoint.name)
        return Admitted("1")

    def give_back(self, endpoint, _slot, _call):
        self.given_back.append(endpoint.name)

    def send(self, connection, _endpoint, _request, _deadline):
        self.sent.append((connection.name, self._clock.time))

    def receive(self, connection, _endpoint, sent_at, deadline):
        answers_at = sent_at + self.answering.get(connection.name, 0)
        self._clock.time = min(answers_at, deadline)
        if answers_at < deadline:
            return Delivered(200, self._clock.time - sent_at)
        return Unreachable("no answer", None, "no answer in time")

    def fail(self, _endpoint, **_options):
        return Failed(1_000_000, opened=self.opened)

    def rest(self, _endpoint, seconds):
        return seconds

    def __getattr__(self, _verb):
        return lambda *_args, **_options: None


class Ways:
    """No host is in trouble: failures are the endpoint's."""

    def __init__(self):
        self.failed = []

    def fail(self, endpoint, *_args, **_options):
        self.failed.append(endpoint.name)
        return Trouble(of_host=False)

    def open(self, *_args):
        return False, ""


class Scene:
    """One lane, and an event whose calls need `needs` seconds, `remaining` seconds before the deadline."""

    def __init__(self, clock):
        self.clock = clock
        self.api = Api(clock)
        self.ledger_changes = {}

    def carry(self, *, needs=0.5, remaining=60.0, claims=1, turn_seconds=0.0, rests=0, **changes):
        endpoints = {
            name: Endpoint(name, f"http://{name}:1", Limit.parse("9/minute"), TIMEOUT) for name in (FIRST, SECOND)
        }
        kind = EventType("T", 1, needs, tuple(endpoints.values()))
        begin = remaining - needs
        lease = kind.lease_seconds * (2 if changes.get("alone") else 1)
        spans = remaining, begin, needs, lease
        claim = Claim("i:T", "run", LaneId("w", 1), 1, FIRST, *spans, "wallet", b"{}", **changes)
        self.ledger = Ledger(self.clock, lease, *[claim] * claims)
        self.ledger.turn_seconds = turn_seconds
        vars(self.ledger).update(self.ledger_changes)
        settings = SimpleNamespace(
            event_types=[kind],
            endpoints=endpoints,
            run=SimpleNamespace(guard_seconds=0.5),
            retry=SimpleNamespace(max_attempts=3, max_runs=5),
            revision="r",
        )
        self.began = self.clock.time
        self.ways = Ways()
        parts = {"windows": self.api, "breaker": self.api, "ways": self.ways}
        store = SimpleNamespace(turns=self.ledger, ledger=self.ledger, **parts)
        self.woken = []
        self.lanes = Lanes(store, settings, self.api, "w", lambda: self.woken.append(self.ledger.turns[:]))
        self.rested = [self.lanes.rest() for _ in range(rests)]
        self.lanes.carry("run")

    @property
    def sent(self):
        """The calls: where, and how long after the claim."""
        return [(name, pytest.approx(at - self.began)) for name, at in self.api.sent]

    @property
    def settled(self):
        """How the event was settled."""
        ((verb, at),) = self.ledger.settled
        assert at < self.ledger.lease_ends
        return verb


@pytest.fixture
def scene(monkeypatch):
    clock = SetClock()
    monkeypatch.setattr(lane, "system_clock", clock)
    monkeypatch.setattr(attempt, "system_clock", clock)
    monkeypatch.setattr(health, "system_clock", clock)
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


def test_an_event_that_the_lease_is_too_short_for_by_now_is_given_back(scene):
    """Nothing is sent and no attempt spent: the connection is kept for the next time."""
    scene.api.connecting = {FIRST: 7.0}
    scene.api.shut = {FIRST}

    scene.carry(needs=5.0)

    assert (scene.sent, scene.settled) == ([], "give_back")
    assert scene.api.kept == [FIRST]


def test_a_call_that_no_longer_fits_once_connected_is_not_begun(scene):
    """The time to connect counts; no slot is asked for, and the other endpoint has its chance."""
    scene.api.connecting = {FIRST: 0.9}

    scene.carry(needs=0.5, remaining=1.0)

    assert (scene.sent, scene.api.slots, scene.settled) == ([], [], "give_back")
    assert scene.api.kept == [FIRST]


def test_a_slot_that_comes_too_late_for_the_deadline_is_given_back(scene):
    """Asking for it took what was left."""
    scene.api.asking = {FIRST: 0.15}
    scene.api.connecting = {FIRST: 0.4}

    scene.carry(needs=0.5, remaining=1.0)

    assert (scene.sent, scene.settled) == ([], "give_back")
    assert scene.api.given_back == scene.api.slots == [FIRST]


def test_the_last_attempt_waits_for_a_healthy_endpoint_that_is_full_for_a_moment(scene):
    """It is no probe although a probe's slot is free, and no connection to that endpoint is opened in vain."""
    scene.api.failing, scene.api.shut, scene.api.shut_seconds = {FIRST}, {SECOND}, 0.5

    scene.carry(remaining=90.0, tries=2, last_endpoint=FIRST)

    assert (scene.sent, scene.api.slots, scene.api.kept, scene.settled) == ([], [], [], "postpone")


@pytest.mark.parametrize(("tries", "remaining", "wait"), [(1, 90.0, 0.5), (2, 0.6, 0.5), (2, 90.0, 60.0)])
def test_an_earlier_attempt_or_one_without_a_healthy_slot_soon_is_a_probe(scene, tries, remaining, wait):
    """An attempt is left after it, or the healthy endpoint has its slot too late: for an answer, or for the probe."""
    scene.api.failing, scene.api.shut, scene.api.shut_seconds = {FIRST}, {SECOND}, wait

    scene.carry(remaining=remaining, tries=tries, last_endpoint=FIRST)

    assert (scene.sent, scene.settled) == ([(FIRST, 0.0)], "complete")


@pytest.mark.parametrize("failing", [set(), {FIRST}])
def test_the_last_attempt_is_made_at_a_healthy_endpoint_with_a_slot(scene, failing):
    """Whatever endpoint the call was released for."""
    scene.api.failing = failing

    scene.carry(tries=2, last_endpoint=FIRST)

    assert (scene.sent, scene.settled) == ([(SECOND, 0.0)], "complete")


@pytest.mark.parametrize("slow", ["turn", "connecting"])
def test_a_slot_that_came_with_the_claim_and_cannot_be_used_in_time_is_given_back(scene, slow):
    """The answer of Redis was long on its way, or connecting took long: the event has another slot."""
    scene.api.connecting = {FIRST: 0.21 if slow == "connecting" else 0.0}

    scene.carry(stamp="1", turn_seconds=0.21 if slow == "turn" else 0.0)

    assert scene.api.given_back == scene.api.slots == [FIRST]
    assert ([name for name, _ in scene.sent], scene.settled) == ([FIRST], "complete")


def test_an_event_taken_back_while_it_waited_to_be_carried_alone_is_not_sent(scene):
    """It is somebody else's by now."""
    scene.ledger_changes = {"begin_alone": lambda _claim: False}

    scene.carry(alone=True)

    assert scene.sent == []
    assert [verb for verb, _ in scene.ledger.settled] == ["give_back"]


def test_a_lane_that_is_to_probe_a_way_connects_first_and_then_has_the_call(scene):
    """Its turns say that it has reached the endpoint until it has a call there."""
    scene.ledger_changes = {"probes": [FIRST]}

    scene.carry(stamp="1")

    assert scene.ledger.reached == [(), (FIRST,), ()]
    assert scene.sent == [(FIRST, 0.0)]


def test_a_lane_that_cannot_connect_to_probe_a_way_says_so_and_has_no_call(scene):
    """It comes again a little later, as where nothing is released that its host can call."""
    scene.ledger_changes = {"probes": [FIRST]}
    scene.api.unreachable = {FIRST}
    scene.api.connecting = {FIRST: 1.0}

    scene.carry()

    assert (scene.ledger.reached, scene.sent, scene.ledger.settled) == ([()], [], [])
    assert scene.ways.failed == [FIRST]
    assert scene.clock.time - scene.began == pytest.approx(1.25)


def test_a_call_whose_turn_waited_for_redis_is_awaited_until_the_deadline(scene):
    """The wait does not bring the deadline forward: an earlier turn, which did not wait, has shown when it is."""
    waits, ends_at = [0.0, 0.19], scene.clock.time + 1.0
    scene.api.answering = {FIRST: 0.35}

    def take(_lane, _run_id, completed, _reached, **_options):
        if completed:
            scene.ledger.complete(completed)
        if not waits:
            return Turn(settled=True, why="none")
        scene.clock.sleep(waits.pop(0))
        left = ends_at - scene.clock.time
        claim = structs.replace(scene.ledger._claims[0], remaining_seconds=left, begin_seconds=left - 0.35)
        return Turn(settled=True, claim=claim)

    scene.ledger_changes = {"take": take}

    scene.carry()

    assert scene.sent == [(FIRST, 0.0), (FIRST, 0.54)]
    assert [verb for verb, _ in scene.ledger.settled] == ["complete", "complete"]
    assert scene.clock.time < ends_at
