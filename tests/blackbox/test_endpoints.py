"""Endpoints in trouble: they rest, are probed, and cost the others nothing."""

from __future__ import annotations

import itertools

import pytest

from tests.blackbox.api import CUT, HANG, OK, Answer
from tests.blackbox.system import until

pytestmark = pytest.mark.rest

SUCCESS = {"content_type": "application/json", "field": "status", "value": "ok"}
GOOD = Answer(body=b'{"status": "ok", "more": 1}')
NOT_GOOD = {
    "value": Answer(body=b'{"status": "failed"}'),
    "field": Answer(body=b'{"state": "ok"}'),
    "type": Answer(body=b'{"status": "ok"}', headers={"Content-Type": "text/html"}),
    "json": Answer(body=b"<html>ok</html>"),
    "list": Answer(body=b'["ok"]'),
}


def test_a_failing_endpoint_rests_and_its_share_goes_to_the_other(fresh):
    types = {"A": {"rate_limit": "10/second", "endpoints": ["bad", "good"]}}
    system = fresh(types, run={"window_seconds": 15}, retry={"max_attempts": 20}).up()
    system.api.say("bad", Answer(500))
    system.push_many(60, "A")
    record = system.run()
    assert record["counts"]["completed"] == 60
    assert 5 <= len(system.api.of("bad")) <= 25
    assert record["by_endpoint"]["bad"]["errors"] == len(system.api.of("bad"))
    system.assert_promises(by_hand=True)


def test_a_failing_endpoint_is_probed_and_comes_back(fresh):
    system = fresh({"A": {"rate_limit": "10/second"}}, retry={"max_attempts": 20}).up()
    system.api.say("a", *[Answer(500)] * 12, OK)
    system.push_many(30, "A")
    record = system.run()
    assert record["counts"]["completed"] == 30
    calls = system.api.of("a")
    assert max(later.at - earlier.at for earlier, later in itertools.pairwise(calls[4:13])) >= 0.9  # a rest
    system.assert_promises(by_hand=True)


def test_refusals_in_a_row_are_the_trouble_of_the_endpoint(fresh):
    statuses = [401, 403, 404, 405, 410]
    system = fresh({f"T{status}": {"rate_limit": "100 per 2 second"} for status in statuses}, run={"window_seconds": 4})
    for status in statuses:
        system.api.say(f"t{status}", Answer(status))
    system.up().push_many(60, *system.types)
    record = system.run(code=1)  # every call of it failed
    for counts in record["by_type"].values():
        assert 2 <= counts["failed"] <= 30
        assert counts["leftover"] == 60 - counts["failed"]
    assert {end["health"] for end in system.json("endpoint", "list")} <= {"resting", "probing"}
    for status in statuses:
        system.api.say(f"t{status}", OK)
    system.rlm("endpoint", "resume", "*")
    assert system.run()["counts"]["completed"] == record["counts"]["leftover"]
    system.assert_promises(by_hand=True)


def test_others_refused_are_only_dead_letters(fresh):
    system = fresh({"A": {"rate_limit": "100/second"}}).up()
    system.api.say("a", Answer(422))
    system.push_many(30, "A")
    assert system.run(code=1)["counts"]["failed"] == 30


def test_retry_after_zero_for_ever_is_no_busy_loop(fresh):
    system = fresh({"A": {"rate_limit": "100/second"}}, run={"window_seconds": 10}).up()
    system.api.say("a", Answer(429, {"Retry-After": "0"}))
    system.push_many(1, "A")
    record = system.run(code=None)
    assert len(system.api.calls) <= 20
    assert record["counts"]["leftover"] == 1
    assert {call.body["attempt"] for call in system.api.calls} == {1}


def test_throttled_for_ever_an_event_spends_no_attempt(fresh):
    system = fresh({"A": {"rate_limit": "5/second"}}, run={"window_seconds": 3}, retry={"max_runs": 1})
    system.up().api.say("a", *[Answer(429)] * 6, OK)
    system.push_many(1, "A")
    until("it is done", lambda: system.run(code=None)["counts"]["completed"] == 1, 30)
    assert {call.body["attempt"] for call in system.api.calls} == {1}
    assert len(system.api.calls) == 7
    system.assert_promises(by_hand=True)


def test_a_call_without_an_answer_blocks_its_slot_for_a_period_from_its_end(fresh):
    end = {"name": "a", "timeout_seconds": 1}
    system = fresh({"A": {"rate_limit": "2 per 2 second", "endpoints": [end]}}).up()
    system.api.say("a", HANG, HANG, OK)
    system.push_many(4, "A")
    assert system.run()["counts"]["completed"] == 4
    first, second, *later = system.api.of("a")
    assert later[0].at - max(first.at, second.at) >= 3.0  # its time-out and a period
    system.assert_promises(by_hand=True)


def test_a_call_under_way_at_the_deadline_is_cut_and_left_over(fresh):
    system = fresh({"A": {"rate_limit": "100/second"}}, run={"window_seconds": 3}).up()
    system.api.say("a", HANG)
    [event] = system.push_many(1, "A")
    record = system.run(code=1)
    assert record["counts"]["leftover"] == 1
    assert record["duration_seconds"] <= 4.0
    system.api.say("a", OK)
    assert system.run()["counts"]["completed"] == 1
    assert [call.body["attempt"] for call in system.api.of_event(event)] == [1, 2]
    system.assert_promises(by_hand=True)


def test_an_unexpected_answer_is_a_failure(fresh):
    types = {name.upper(): {"rate_limit": "100/second", "success": SUCCESS} for name in NOT_GOOD}
    types["GOOD"] = {"rate_limit": "100/second", "success": SUCCESS}
    types["END"] = {"rate_limit": "100/second", "endpoints": [{"name": "end", "success": {"field": "done"}}]}
    system = fresh(types, retry={"max_runs": 1}).up()
    system.api.say("good", GOOD)
    system.api.say("end", Answer(), Answer(body=b'{"done": false}'))
    for name, answer in NOT_GOOD.items():
        system.api.say(name, answer, GOOD)
    system.push_many(1, *types)
    record = system.run()
    assert record["counts"]["completed"] == len(types)
    for name in NOT_GOOD:
        assert [call.body["attempt"] for call in system.api.of(name)] == [1, 2]
    assert len(system.api.of("good")) == 1
    assert len(system.api.of("end")) == 2


def test_what_an_endpoint_sends_unasked_answers_no_other_endpoint(fresh):
    types = {
        "JUNK": {"rate_limit": "1 per 0.1 second", "priority": 9},  # one of it, then some of the other
        "VICTIM": {"rate_limit": "4 per 0.1 second", "priority": 1},
    }
    junk = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    system = fresh(types, run={"guard_seconds": 0.01}, workers={"max": 1, "threads": 2})
    system.api.say("junk", Answer(409, late=junk))
    system.api.say("victim", Answer(422, body=b'{"of": "victim"}'))
    system.push_many(10, "JUNK")
    victims = system.push_many(40, "VICTIM")
    record = system.up().run(code=None)
    assert record["by_type"]["VICTIM"]["failed"] == 40
    assert {call.event_id for call in system.api.of("victim")} == set(victims)


def test_a_connection_that_is_closed_between_calls_costs_nothing_but_an_attempt(fresh):
    system = fresh({"A": {"rate_limit": "100/second"}}).up()
    system.api.say("a", *[Answer(then="close"), CUT, OK, Answer(behind=b"x")] * 10, OK)
    system.push_many(40, "A")
    assert system.run()["counts"]["completed"] == 40
    system.assert_promises(by_hand=True)
