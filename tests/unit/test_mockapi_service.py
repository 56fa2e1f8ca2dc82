"""The answers of the mock API to requests, without a socket and with a test clock."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime

import msgspec
import pytest

from rlm.core.endpoint import Budget, Endpoint, EventType, Limit
from rlm.core.errors import ConfigurationError
from rlm.sandbox.mockapi.connection import Received
from rlm.sandbox.mockapi.endpoint import NoAnswer
from rlm.sandbox.mockapi.service import Service
from tests.values import replace


class StoppedClock:
    def now(self):
        return 1_700_000_000.5

    def monotonic(self):
        return 100.0

    def sleep(self, seconds):
        raise AssertionError(f"nothing here waits, least of all {seconds} s")


def event_type(name, *paths, seconds=2.0, limit="2/minute"):
    endpoints = tuple(Endpoint(path, f"http://h/{path}", Limit.parse(limit), 10.0) for path in paths)
    return EventType(name, 5, seconds, endpoints)


def make(*types):
    return Service(types or [event_type("T", "a", "b")], StoppedClock(), seed=1)


def call(service, path="/a", *, at=100.0, body=None, method="POST"):
    fields = {"event_type": "T", "attempt": 2, "run_id": "r1"} if body is None else body
    return service.receive(Received(method, path, {"idempotency-key": "i:T"}, json.dumps(fields).encode()), at)


def control(service, method, path, body=None):
    reply = call(service, f"/_mock{path}", body=body, method=method)
    return reply.status, json.loads(msgspec.json.encode(reply.data))


def test_a_call_is_answered_after_the_processing_time_of_its_type():
    """An endpoint that serves two types takes as long as each of them says."""
    shared = make(event_type("T", "a"), event_type("SLOW", "a", seconds=7.0))

    times = [call(shared, body={"event_type": name}, at=n * 60.0).after_seconds for n, name in enumerate(["T", "SLOW"])]

    assert times == [2.0, 7.0]


def test_the_log_says_what_arrived():
    """Each call is logged with what its header and body say of it."""
    service = make()

    for at in (100.0, 101.0, 102.25):
        call(service, at=at)

    status, log = control(service, "GET", "/log")
    assert status == 200
    assert [(one["at"], one["accepted"]) for one in log] == [(100.0, True), (101.0, True), (102.25, False)]
    assert log[0] == {
        "at": 100.0,
        "endpoint": "a",
        "event_id": "i:T",
        "attempt": 2,
        "run_id": "r1",
        "status": None,
        "accepted": True,
    }


def test_a_refusal_tells_whole_seconds_rounded_up():
    """A fraction is no legal Retry-After, and one rounded down would be refused again."""
    service = make()
    for _ in range(2):
        call(service, at=100.0)

    refused = call(service, at=102.5)

    assert (refused.status, refused.headers, refused.after_seconds) == (429, {"Retry-After": "58"}, 0.0)


def test_retry_after_is_never_zero():
    """A refusal that is over in a moment still asks for a second."""
    service = make(event_type("T", "a", limit="1 per 0.1 second"))

    replies = [call(service, at=at) for at in (100.0, 100.05)]

    assert replies[1].headers == {"Retry-After": "1"}


def hanging_together(limit="3/minute"):
    """A service whose endpoints `a` (of two types) and `b` share a budget; `c` has none. Each has 2/minute."""
    account = Budget("account", Limit.parse(limit))
    one = event_type("T", "a", "c")
    shared = replace(one.endpoints[0], budget=account)
    two = event_type("OTHER", "b")
    return make(
        replace(one, endpoints=(shared, one.endpoints[1])),
        replace(two, endpoints=(replace(two.endpoints[0], budget=account), shared)),
    )


def test_a_call_over_its_budget_is_refused():
    """What its endpoints were called together counts, to the dot, and the refused call waits for its oldest."""
    service = hanging_together()

    statuses = [call(service, path, at=at).status for path, at in (("/a", 100.0), ("/b", 110.0), ("/a", 120.0))]
    refused = call(service, "/b", at=130.0)

    assert statuses == [200, 200, 200]
    assert (refused.status, refused.headers) == (429, {"Retry-After": "30"})
    assert call(service, "/c", at=130.0).status == 200
    assert call(service, "/b", at=160.0).status == 200


def test_a_call_that_one_window_refuses_takes_no_room_in_the_other():
    """Refused by its own limit it leaves the budget as it was, and the other way round."""
    service = hanging_together()

    own = [call(service, "/a", at=100.0).status for _ in range(9)]
    budget = [call(service, "/b", at=100.0).status for _ in range(9)]

    assert own == [200, 200] + [429] * 7
    assert budget == [200] + [429] * 8
    assert call(service, "/a", at=160.0).status == 200
    assert [call(service, "/b", at=160.0).status for _ in range(3)] == [200, 200, 429]


def test_the_later_of_two_waits_is_told():
    """A call that both limits refuse is told when the last of them admits it."""
    service = hanging_together("2 per 90 second")
    for _ in range(2):
        call(service, "/a", at=100.0)

    assert call(service, "/a", at=110.0).headers == {"Retry-After": "80"}
    assert call(service, "/c", at=110.0).status == 200


def test_budgets_are_summed_up_beside_the_endpoints():
    """The summary of endpoints is as ever; that of budgets counts all calls to the endpoints that hang on each."""
    service = hanging_together()
    for path in ("/a", "/b", "/b", "/b", "/c"):
        call(service, path, at=100.0)
    service.set_faults({"a": {"down": True}})
    service.cuts("/a")

    status, budgets = control(service, "GET", "/budgets")
    _, endpoints = control(service, "GET", "/summary")

    assert status == 200
    assert budgets == {
        "account": {"calls": 4, "accepted": 3, "refused": 1, "cut": 1, "most": 3, "limit": "3/minute"},
    }
    assert {name: one["most"] for name, one in endpoints.items()} == {"a": 1, "c": 1, "b": 2}
    assert control(make(), "GET", "/budgets") == (200, {})


def test_retry_after_can_be_a_date_or_absent():
    """The date lies no earlier than the seconds would have said."""
    service = make()
    service.set_faults({"a": {"throttle": 7, "retry_after": "date"}, "b": {"throttle": 7, "retry_after": "none"}})

    dated, silent = call(service, "/a"), call(service, "/b")

    assert parsedate_to_datetime(dated.headers["Retry-After"]).timestamp() == 1_700_000_008
    assert (silent.status, silent.headers) == (429, {})


def test_limits_come_before_faults():
    """A call that a fault meets counts against the limit; one that the limit refuses meets no fault."""
    service = make()
    service.set_faults({"a": {"hang": True}})

    replies = [call(service) for _ in range(3)]

    assert replies[:2] == [NoAnswer.HANG, NoAnswer.HANG]
    assert replies[2].status == 429
    assert [arrival.accepted for arrival in service.arrivals] == [True, True, False]


def test_an_endpoint_that_is_down_sees_no_arrival():
    """Its connections are cut before the call is read, and counted."""
    service = make()
    service.set_faults({"a": {"down": True}})

    cut = [service.cuts(path) for path in ("/a", "/b", "/c")]

    assert cut == [True, False, False]
    assert (service.summary()["a"].cut, service.summary()["a"].calls) == (1, 0)


def test_faults_change_live_and_are_shown():
    """What is posted replaces what was; endpoints that are not named keep theirs."""
    service = make()

    control(service, "POST", "/faults", {"*": {"slow": 3}, "a": {"error_rate": 0.5, "status": 503}})
    _, faults = control(service, "GET", "/faults")

    assert (faults["a"]["error_rate"], faults["a"]["status"], faults["a"]["slow"]) == (0.5, 503, 1.0)
    assert faults["b"]["slow"] == 3.0
    assert control(service, "POST", "/faults", {"*": {}})[1]["b"]["slow"] == 1.0


@pytest.mark.parametrize("wrong", [{"b": {"down": True}, "c": {}}, {"b": {"down": True}, "a": {"slow": -1}}, []])
def test_wrong_faults_change_nothing(wrong):
    """They are refused as a whole, with a message that shows what right ones look like."""
    service = make()

    status, answer = control(service, "POST", "/faults", wrong)

    assert status == 400
    assert "error_rate" in answer["error"]
    assert not service.faults()["b"].down


def test_what_is_not_an_endpoint_is_not_found():
    """The answer names the endpoints there are."""
    reply = call(make(), "/c")

    assert reply.status == 404
    assert "/a, /b" in reply.data["error"]


def test_endpoints_take_post_only():
    """Anything else is refused and is no arrival."""
    service = make()

    reply = call(service, method="GET")

    assert (reply.status, reply.headers) == (405, {"Allow": "POST"})
    assert service.arrivals == []


def test_a_call_that_is_not_json_arrived_all_the_same():
    """A limit counts calls, not good ones."""
    service = make()

    service.receive(Received("POST", "/a", body=b"\xff{[["), 100.0)

    (arrival,) = service.arrivals
    assert (arrival.event_id, arrival.attempt, arrival.run_id, arrival.accepted) == (None, None, None, True)


def test_two_endpoints_of_one_path_cannot_be_told_apart():
    """The message names both and the remedy."""
    twins = EventType(
        "T", 5, 1.0, tuple(Endpoint(f"e{n}", f"http://h{n}/x", Limit.parse("1/second"), 1) for n in (1, 2))
    )

    with pytest.raises(ConfigurationError, match=r"'e1' and 'e2' have the same path '/x'.*give one of"):
        make(twins)


def test_the_mocks_own_paths_are_not_for_endpoints():
    """An endpoint there would hide the controls."""
    with pytest.raises(ConfigurationError, match="another path"):
        make(event_type("T", "_mock/log"))
