"""What each answer of an API does to its event: one event of a type for each, in one run and then another."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from tests.blackbox.api import CUT, HANG, OK, Answer, refused_port

INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"


def in_three_seconds(call):
    return Answer(429, {"Retry-After": formatdate(time.time() + 3, usegmt=True)})


ANSWERS = {
    # completed
    "ok": [OK],
    "created": [Answer(201, body=b"")],
    "no_content": [Answer(204, body=b"")],
    "interim": [Answer(ahead=INTERIM)],
    "not_json": [Answer(body=b"\xff\xfe", headers={"Content-Type": "text/plain"})],
    "closing": [Answer(then="close")],
    # an attempt is spent, then it is completed
    "e408": [Answer(408), OK],
    "e425": [Answer(425), OK],
    "e500": [Answer(500), OK],
    "e502": [Answer(502), OK],
    "e503": [Answer(503), OK],
    "twice": [Answer(500), Answer(500), OK],
    "switch": [Answer(101, then="close"), OK],
    "cut": [CUT, OK],
    "half": [Answer(then="cut", ahead=b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"), OK],
    "garbage": [Answer(then="cut", ahead=b"SMTP ready\r\n\r\n"), OK],
    "hang": [HANG, OK],
    # no attempt is spent, then it is completed
    "t429": [Answer(429), OK],
    "t429_seconds": [Answer(429, {"Retry-After": "2"}), OK],
    "t429_date": [in_three_seconds, OK],
    "t429_junk": [Answer(429, {"Retry-After": "soon"}), OK],
    "t503_seconds": [Answer(503, {"Retry-After": "2"}), OK],
    "t429_then_500": [Answer(429), Answer(500), OK],
    # rejected
    "r400": [Answer(400, body=b'{"why": "no such wallet"}')],
    "r404": [Answer(404)],
    "r409": [Answer(409)],
    "r422": [Answer(422)],
    "r301": [Answer(301, {"Location": "/ok"})],
    "r304": [Answer(304, body=b"")],
    "r302": [Answer(302, {"Location": "/ok"})],
    # leftover, then a dead letter, as max_runs is 2
    "spent": [Answer(500)],
}
RETRIED = ["e408", "e425", "e500", "e502", "e503", "switch", "cut", "half", "garbage", "hang"]
THROTTLED = ["t429", "t429_seconds", "t429_date", "t429_junk", "t503_seconds"]
REJECTED = [name for name in ANSWERS if name.startswith("r")]


@pytest.fixture(scope="module")
def system(shared):
    def type_of(*ends):
        return {"rate_limit": "20/second", "endpoints": list(ends)}

    nobody = refused_port()
    types = {name.upper(): type_of({"name": name, "timeout_seconds": 0.7}) for name in ANSWERS}
    types["REFUSED"] = type_of(
        {"name": "refused", "url": f"http://127.0.0.1:{nobody.getsockname()[1]}/refused"}, "refused_2"
    )
    types["SPILL"] = type_of("spill", "spill_2")
    system = shared(types, retry={"max_runs": 2}, workers={"min": 2, "max": 4, "threads": 10})
    for name, answers in ANSWERS.items():
        system.api.say(name, *answers)
    system.api.say("spill", Answer(429, {"Retry-After": "60"}))
    system.up()
    yield system
    nobody.close()


@pytest.fixture(scope="module")
def record(system):
    for kind in system.types:
        system.push({"id": "a", "wallet_name": "w", "events": [kind]})
    return system.run()


def calls(system, name):
    return system.api.of_event(f"a:{name.upper()}")


@pytest.mark.parametrize("name", ["ok", "created", "no_content", "interim", "not_json", "closing"])
def test_2xx_completes(system, record, name):
    assert len(calls(system, name)) == 1
    assert record["by_type"][name.upper()]["completed"] == 1
    assert record["by_endpoint"][name]["completed"] == 1


@pytest.mark.parametrize("name", RETRIED)
def test_a_failure_is_retried_and_spends_an_attempt(system, record, name):
    first, second = calls(system, name)
    assert (first.body["attempt"], second.body["attempt"]) == (1, 2)
    assert second.at - first.at >= 0.2  # a back-off
    assert record["by_type"][name.upper()]["completed"] == 1
    assert record["by_endpoint"][name]["errors"] == 1


def test_the_back_off_grows(system, record):
    first, second, third = calls(system, "twice")
    assert [call.body["attempt"] for call in (first, second, third)] == [1, 2, 3]
    assert third.at - first.at >= 0.6


@pytest.mark.parametrize("name", THROTTLED)
def test_throttling_spends_no_attempt(system, record, name):
    first, second = calls(system, name)
    assert (first.body["attempt"], second.body["attempt"]) == (1, 1)
    least = {"t429_seconds": 2.0, "t503_seconds": 2.0, "t429_date": 1.9}.get(name, 1.0)  # else a period
    assert second.at - first.answered_at >= least - 0.05
    assert record["by_endpoint"][name]["throttled"] == 1


def test_throttling_and_failing_are_counted_apart(system, record):
    assert [call.body["attempt"] for call in calls(system, "t429_then_500")] == [1, 1, 2]


@pytest.mark.parametrize("name", REJECTED)
def test_other_answers_are_dead_letters_at_once(system, record, name):
    assert len(calls(system, name)) == 1
    letter = system.letter(f"a:{name.upper()}")
    assert letter["reason"] == "rejected"
    assert letter["run_id"] == record["run_id"]
    assert letter["item"]["id"] == "a"
    assert record["by_type"][name.upper()]["failed"] == 1


def test_no_redirect_is_followed(system, record):
    assert {call.event_id for call in system.api.of("ok")} == {"a:OK"}


def test_a_refused_connection_is_retried_elsewhere(system, record):
    assert [call.path for call in calls(system, "refused")] == ["refused_2"]
    assert record["by_type"]["REFUSED"]["completed"] == 1


def test_a_throttled_event_goes_to_another_endpoint(system, record):
    assert [call.path for call in calls(system, "spill")][-1] == "spill_2"
    assert {call.body["attempt"] for call in calls(system, "spill")} == {1}
    assert record["by_type"]["SPILL"]["completed"] == 1


def test_attempts_are_bounded_over_runs(system, record):
    assert [call.body["attempt"] for call in calls(system, "spent")] == [1, 2, 3]
    assert record["by_type"]["SPENT"]["leftover"] == 1
    assert record["state"] == "partial"
    second = system.run(code=1)  # every call of it fails
    assert [call.body["attempt"] for call in calls(system, "spent")] == [1, 2, 3, 4, 5, 6]
    assert second["by_type"]["SPENT"] == {"taken": 0, "carried_over": 1, "completed": 0, "failed": 1, "leftover": 0}
    assert second["state"] == "completed"
    assert system.letter("a:SPENT")["reason"] == "attempts_spent"


def test_keys_and_items_are_stable_and_nothing_is_lost(system, record):
    system.assert_promises(by_hand=True)
