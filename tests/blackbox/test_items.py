"""What becomes of an item: its events, its call, or its dead letter."""

from __future__ import annotations

import base64
import json
from contextlib import suppress

import pytest

from tests.blackbox.system import LISTS, until

ITEM = {"id": "whole-1", "wallet_name": "Кошелёк 財布", "events": ["A", "B", "A"], "worker_id": "1", "priority": 7}
ODD = {"big": 2**63 + 1, "float": 1.5e-7, "deep": [[[{"a": None}]]], "text": 'ü"\\\u2028', "": "", "retry_count": 0}
DEEP = b'{"id": "deep", "wallet_name": "w", "events": ["A"], "x": ' + b"[" * 5000 + b"]" * 5000 + b"}"


def item(**fields):
    return json.dumps({"id": "bad", "wallet_name": "w", "events": ["A"]} | fields).encode()


def without(name):
    return json.dumps({k: v for k, v in json.loads(item()).items() if k != name}).encode()


# What is pushed, and the reason of its letter.
BAD = {
    "text": (b"hello", "not_json"),
    "empty": (b"", "not_json"),
    "nan": (b'{"id": "n", "wallet_name": "w", "events": ["A"], "x": NaN}', "not_json"),
    "half": (b'{"id": "n", "wallet_name": "w", "events": ["A"]', "not_json"),
    "bytes": (b'{"id": "n", "wallet_name": "\xff\xfe", "events": ["A"]}', "not_utf8"),
    "array": (b'["A"]', "not_object"),
    "null": (b"null", "not_object"),
    "no_id": (without("id"), "missing_field"),
    "no_wallet": (without("wallet_name"), "missing_field"),
    "no_events": (without("events"), "missing_field"),
    "id_number": (item(id=1), "wrong_type"),
    "wallet_null": (item(wallet_name=None), "wrong_type"),
    "events_text": (item(events="A"), "wrong_type"),
    "events_number": (item(events=["A", 1]), "wrong_type"),
    "priority_text": (item(priority="5"), "wrong_type"),
    "id_empty": (item(id=""), "bad_value"),
    "id_long": (item(id="x" * 201), "bad_value"),
    "id_space": (item(id="a b"), "bad_value"),
    "id_umlaut": (item(id="ä"), "bad_value"),
    "wallet_empty": (item(wallet_name=""), "bad_value"),
    "wallet_long": (item(wallet_name="ж" * 501), "bad_value"),
    "events_none": (item(events=[]), "bad_value"),
    "priority_high": (item(priority=101), "bad_value"),
    "priority_low": (item(priority=-1), "bad_value"),
    "types_101": (item(events=["A", *[f"T{n}" for n in range(100)]]), "bad_value"),
    "deep": (DEEP, "too_deep"),
}
MARK = json.dumps({"id": "huge", "wallet_name": "w", "events": ["A"], "x": "y" * 70_000}).encode()
UNKNOWN = {"id": "mixed", "wallet_name": "w", "events": ["A", "NEW_1", "NEW_2", "NEW_3"]}


@pytest.fixture(scope="module")
def system(shared):
    headers = {"X-Plain": "as it is", "Authorization": "env:BLACKBOX_SECRET"}
    types = {
        "A": {"rate_limit": "1000/second", "endpoints": [{"name": "a", "headers": headers}]},
        "B": {"rate_limit": "1000/second"},
    }
    system = shared(types)
    system.env["BLACKBOX_SECRET"] = "Bearer very-secret-9f3"
    return system.up()


@pytest.fixture(scope="module")
def record(system):
    """The record of a run of a whole item, bad ones, and duplicates."""
    system.push(ITEM | ODD)
    system.redis.lpush(LISTS["events"], *[pushed for pushed, _ in BAD.values()])
    system.redis.lpush(LISTS["events"], MARK, json.dumps(UNKNOWN))
    system.pushed["mixed:A"] = UNKNOWN
    system.push({"id": "again", "wallet_name": "w", "events": ["A", "B"]})
    system.push({"id": "again", "wallet_name": "other", "events": ["A"]})
    system.pushed["again:A"] = {"id": "again", "wallet_name": "w", "events": ["A", "B"]}
    return system.run()


def the_letter(system, pushed):
    """Return the one letter of a bad item, which has it embedded, as an object or in base64."""

    def original(letter):
        whole = letter["item"]
        if isinstance(whole, dict) and set(whole) == {"base64"}:
            return base64.b64decode(whole["base64"]) == pushed
        with suppress(ValueError, RecursionError):
            return whole == json.loads(pushed) and letter["reason"] != "too_large"
        return False

    [letter] = [letter for letter in system.letters() if original(letter)]
    return letter


@pytest.mark.parametrize("name", BAD)
def test_a_bad_item_is_one_dead_letter(system, record, name):
    pushed, reason = BAD[name]
    letter = the_letter(system, pushed)
    assert letter["reason"] == reason
    assert letter["event_id"] is None
    assert letter["run_id"] == record["run_id"]
    assert {"id", "detail", "failed_at"} <= set(letter)


def test_a_giant_is_set_aside_unread(system, record):
    [letter] = [letter for letter in system.letters() if letter["reason"] == "too_large"]
    assert letter["item"] is None
    assert system.redis.lrange(letter["aside"], 0, -1) == [MARK.decode()]


def test_unknown_types_make_one_letter_and_leave_the_good_ones(system, record):
    assert len(system.api.of_event("mixed:A")) == 1
    [letter] = [letter for letter in system.letters() if letter["reason"] == "unknown_type"]
    assert sorted(letter["types"]) == ["NEW_1", "NEW_2", "NEW_3"]
    assert letter["item"] == UNKNOWN
    assert record["counts"]["invalid"] == len(BAD) + 2


def test_the_record_counts_what_came_in(system, record):
    assert record["counts"]["taken"] == 5  # whole-1 twice, again twice, mixed once
    assert record["counts"]["duplicates"] == 1
    assert record["counts"]["invalid"] == len(system.letters()) >= len(BAD) + 2
    assert record["counts"]["completed"] == 5
    assert system.redis.llen(LISTS["events"]) == 0
    assert system.redis.llen(LISTS["processing"]) == 0


def test_the_call_is_as_described(system, record):
    [call] = system.api.of_event("whole-1:A")
    assert call.path == "a"
    assert call.body == {
        "event_id": "whole-1:A", "event_type": "A", "wallet_name": ITEM["wallet_name"],
        "run_id": record["run_id"], "attempt": 1, "item": ITEM | ODD,
    }  # fmt: skip
    assert call.headers["content-type"] == "application/json"
    assert call.headers["idempotency-key"] == "whole-1:A"
    assert call.headers["user-agent"].startswith("rlm/")
    assert call.headers["x-plain"] == "as it is"
    assert call.headers["authorization"] == "Bearer very-secret-9f3"
    [other] = system.api.of_event("whole-1:B")
    assert other.body["event_type"] == "B"
    assert "authorization" not in other.headers


@pytest.mark.rest
def test_secrets_are_shown_nowhere(system, record):
    shown = system.rlm("config", "show", "--json").out + system.rlm("doctor", "--json", code=None).out
    assert "very-secret-9f3" not in shown + system.rlm("explain", "whole-1:A").out + system.log()


def test_the_first_of_duplicates_stands_also_when_it_is_done(system, record):
    system.redis.lpush(LISTS["events"], json.dumps({"id": "again", "wallet_name": "late", "events": ["A"]}))
    assert system.run()["counts"]["duplicates"] == 1
    assert [call.body["wallet_name"] for call in system.api.of_event("again:A")] == ["w"]


def test_nothing_is_lost(system, record):
    system.assert_promises(by_hand=True)


@pytest.mark.rest
def test_many_unknown_types_make_no_more_letters_than_items(fresh):
    system = fresh({"A": {"rate_limit": "1000/second"}}).up()
    types = [f"NO_SUCH_TYPE_{n}" for n in range(99)]
    system.push_many(300, "A")
    for n in range(300):
        many = {"id": f"many-{n}", "wallet_name": "w", "events": types, "x": "y" * 2000}
        system.redis.lpush(LISTS["events"], json.dumps(many))
    record = system.run()
    assert record["counts"]["invalid"] == system.redis.llen(LISTS["failed"]) == 300
    system.assert_promises(by_hand=True)


@pytest.mark.rest
def test_a_retried_letter_makes_events_of_the_types_known_by_then(fresh):
    system = fresh({"A": {"rate_limit": "1000/second"}})
    known = {"id": "mixed", "wallet_name": "w", "events": ["A", "B", "C"]}
    system.push(known)
    assert system.run()["counts"]["invalid"] == 1
    system.types["B"] = {"rate_limit": "1000/second"}
    system.write()
    [letter] = system.letters()
    system.rlm("failed", "retry", letter["id"], code=None)
    until_then = system.run()
    assert until_then["counts"]["completed"] == 1
    assert [call.path for call in system.api.calls] == ["a", "b"]
    [left] = system.letters()
    assert left["types"] == ["C"]


@pytest.mark.rest
def test_after_dedupe_seconds_an_event_is_a_new_one(fresh):
    system = fresh({"A": {"rate_limit": "1000/second"}}, queue={"dedupe_seconds": 1, "events": "elsewhere"}).up()
    again = json.dumps({"id": "again", "wallet_name": "w", "events": ["A"]})

    def counts():
        system.redis.lpush("elsewhere", again)
        return system.run()["counts"]

    assert counts()["taken"] == 1
    until("it is taken again", lambda: counts()["taken"] == 1, 10)


@pytest.mark.rest
def test_events_of_a_type_that_went_are_dead_letters(fresh):
    system = fresh({"A": {"rate_limit": "1000/second"}, "B": {"rate_limit": "1000/second", "endpoints": ["b"]}})
    system.rlm("endpoint", "pause", "b")
    system.push_many(3, "A", "B")
    system.settings["run"]["window_seconds"] = 3
    system.write()
    assert system.run()["by_type"]["B"]["leftover"] == 3
    del system.types["B"]
    system.write()
    record = system.run()
    assert record["by_type"]["B"] == {"taken": 0, "carried_over": 3, "completed": 0, "failed": 3, "leftover": 0}
    assert {letter["reason"] for letter in system.letters()} == {"unknown_type"}
    assert {letter["event_id"] for letter in system.letters()} == {f"i-{n}:B" for n in range(3)}
