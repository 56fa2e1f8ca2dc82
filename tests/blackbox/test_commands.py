"""The commands: what they print with `--json`, and their exit codes, on one system with some runs behind it."""

from __future__ import annotations

import json
import signal
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from tests.blackbox.api import OK, Answer
from tests.blackbox.system import COUNTS, LISTS, RLM, moment, until

pytestmark = pytest.mark.rest

COMMANDS = [
    "demo", "up", "scheduler", "supervisor", "web", "start", "status", "result", "list", "cancel", "worker start",
    "worker list", "init", "queue list", "queue drop", "queue stats", "queue monitor", "queue push", "queue clear",
    "failed list", "failed show", "failed retry", "failed drop", "plan", "endpoint list", "endpoint pause",
    "endpoint resume", "endpoint limit", "endpoint share", "explain", "compliance", "config show", "config check",
    "test", "doctor", "mock-api",
]  # fmt: skip

RECORD = {
    "run_id": str, "state": str, "trigger": str, "started_at": str, "finished_at": str, "deadline": str,
    "duration_seconds": float, "window_seconds": (int, float), "counts": dict, "by_type": dict, "by_endpoint": dict,
    "plan": dict, "used": dict, "workers": dict,
}  # fmt: skip
HEALTH = {"ok", "full", "resting", "probing", "paused", "held"}


@pytest.fixture(scope="module")
def system(shared):
    types = {
        "A": {"rate_limit": "50/second", "endpoints": ["a", "a_2"]},
        "B": {"rate_limit": "50/second"},
        "SLOW": {"rate_limit": "2/hour", "priority": 3},
    }
    return shared(types).up()


@pytest.fixture(scope="module")
def record(system):
    """The record of a run with completed, rejected and left over events."""
    system.api.say("b", Answer(400, body=b'{"why": "unlucky"}'))
    assert system.json("list") == []
    idle = system.json("status")
    assert [idle[key] for key in ("state", "last", "last_tick")] == ["idle", None, None]
    system.push_many(5, "A")
    system.push_many(3, "B")
    system.push_many(2, "SLOW")
    system.run()
    system.rlm("failed", "drop", "--all", "--yes")
    system.push_many(4, "A", start="two")
    system.push_many(3, "B", start="two")
    return system.run()


@pytest.fixture
def letters(system, record):
    return system.json("failed", "list")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(system, command):
    assert system.rlm(*command.split(), "--help").out


def test_wrong_usage_is_2(system):
    system.rlm("no-such-command", code=2)
    system.rlm("status", "--no-such-option", code=2)
    system.rlm("endpoint", "pause", "no_such_endpoint", code=2)


def test_the_record_is_as_described(system, record):
    for key, kind in RECORD.items():
        assert isinstance(record[key], kind), key
    assert set(record["counts"]) == {*COUNTS, "invalid", "duplicates"}
    assert set(record["by_type"]) == set(system.types)
    assert set(record["by_endpoint"]) == set(system.limits())
    assert record["by_type"]["A"] == dict(zip(COUNTS, (4, 0, 4, 0, 0), strict=True))
    assert record["by_type"]["B"] == dict(zip(COUNTS, (3, 0, 0, 3, 0), strict=True))
    ends = record["by_endpoint"]
    assert ends["a"]["calls"] + ends["a_2"]["calls"] == ends["a"]["completed"] + ends["a_2"]["completed"] == 4
    assert ends["b"]["errors"] == 3
    assert ends["b"]["limit"] == "50/second"
    assert set(ends["a"]) >= {"throttled", "peak_in_window", "p50_ms", "p95_ms"}
    plan = {"workers", "threads", "forecast_seconds", "lower_bound_seconds", "expected_leftover"}
    assert set(record["plan"]) >= plan
    assert set(record["workers"]) == {"peak", "restarted"}
    assert moment(record["deadline"]) - moment(record["started_at"]) == pytest.approx(20, abs=0.01)
    assert record["window_seconds"] == 20
    length = moment(record["finished_at"]) - moment(record["started_at"])
    assert record["duration_seconds"] == pytest.approx(length, abs=0.01)


def test_result_and_status_of_a_run(system, record):
    assert system.json("result") == record
    assert system.json("result", record["run_id"]) == record
    assert system.json("status", record["run_id"]) == record
    assert system.rlm("result").out
    assert system.rlm("result", "no-such-run", code=3).out == ""
    system.rlm("status", "no-such-run", code=3)
    system.rlm("cancel", code=3)


def test_list_is_newest_first(system, record):
    runs = system.json("list")
    assert [run["run_id"] for run in runs] == sorted((run["run_id"] for run in runs), reverse=True)
    assert runs[0] == {key: record[key] for key in ("run_id", "state", "started_at", "duration_seconds", "counts")}
    assert system.json("list", 1) == runs[:1]


def test_status_without_a_run(system, record):
    status = system.json("status")
    assert status["state"] == "idle"
    assert status["last"] == record["run_id"]
    assert "last_tick" in status


def test_doctor_and_status_have_conditions(system, record):
    keys = {"code", "subject", "severity", "since", "sentence", "remedy"}
    system.rlm("endpoint", "pause", "a_2")
    for document in (system.json("doctor", code=None), system.json("status")):
        assert all(set(condition) == keys for condition in document["conditions"])
        ranks = [("error", "warning", "info").index(condition["severity"]) for condition in document["conditions"]]
        assert ranks == sorted(ranks)
        assert "a_2" in {condition["subject"] for condition in document["conditions"]}
    system.rlm("endpoint", "resume", "a_2")


def test_workers_are_listed(system, record):
    [worker, *_] = system.json("worker", "list")
    assert set(worker) >= {"pid", "host", "state", "threads", "busy", "started_at"}
    assert worker["state"] in {"starting", "ready", "stopping"}
    assert worker["threads"] == 5


def test_letters_are_listed_and_shown(system, record, letters):
    assert [letter["event_id"] for letter in letters] == [f"two-{n}:B" for n in (2, 1, 0)] or len(letters) == 3
    keys = {"id", "reason", "detail", "failed_at", "run_id", "event_id", "item"}
    assert all(set(letter) >= keys for letter in letters)
    assert {letter["run_id"] for letter in letters} == {record["run_id"]}
    assert system.json("failed", "show", letters[0]["id"]) == letters[0]
    system.rlm("failed", "show", "no-such-letter", code=3)


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--type", "B"], 3), (["--type", "A"], 0), (["--reason", "rejected"], 3), (["--reason", "not_json"], 0),
        (["--endpoint", "b"], 3), (["--since", "10m"], 3), (["--search", "two-1"], 1), (["1"], 1),
    ],
)  # fmt: skip
def test_letters_are_filtered(system, letters, words, count):
    assert len(system.json("failed", "list", *words)) == count


def test_explain_says_where_an_event_is(system, record):
    done = system.json("explain", "two-0:A")
    assert done["event_id"] == "two-0:A"
    assert len(done["attempts"]) == 1
    assert done["attempts"][0]["endpoint"] in {"a", "a_2"}
    assert done["sentence"]
    assert system.json("explain", "two-0:B")["attempts"][0]["endpoint"] == "b"
    system.rlm("explain", "no-such-event:A", code=3)


def test_compliance_is_kept(system, record):
    for duration in ("90", "90s", "10m", "24h"):
        system.rlm("compliance", "--since", duration)
    system.rlm("compliance", "--since", "5 moons", code=2)
    assert {"a", "a_2", "b", "slow"} <= set(system.json("compliance")["by_endpoint"])


def test_endpoints_are_listed(system, record):
    ends = {end["name"]: end for end in system.json("endpoint", "list")}
    assert set(ends) == {"a", "a_2", "b", "slow"}
    assert {end["health"] for end in ends.values()} <= HEALTH
    assert ends["slow"]["health"] == "full"
    assert ends["a"]["limit"] == "50/second"


def test_share_says_how_another_program_shares_the_window(system, record):
    assert "rlm+redis://" in system.rlm("endpoint", "share", "a").out


def test_a_plan_for_counts_on_fresh_windows(system, record):
    plan = system.json("plan", "--count", "SLOW=5", "--count", "A=10")
    assert plan["expected_leftover"] == 3
    assert not plan["fits"]
    assert set(plan["by_type"]) >= {"A", "SLOW"}
    assert {"workers", "threads", "forecast_seconds", "lower_bound_seconds"} <= set(plan)
    assert all(set(release) >= {"at_seconds", "endpoint", "events"} for release in plan["releases"])
    assert sum(release["events"] for release in plan["releases"]) == 12
    assert system.json("plan", "--count", "SLOW=5", "--set", "types.SLOW.rate_limit=9/minute")["fits"]
    assert system.json("plan", "--count", "A=10", "--workers", "1")["workers"] == 1
    system.rlm("plan", "--count", "NO_SUCH_TYPE=1", code=2)


def test_a_plan_with_another_endpoint(system, record):
    assert system.json("plan", "--count", "SLOW=4", "--add-endpoint", "SLOW=other")["fits"]


def test_queue_push_stats_and_clear(system, record):
    stamp = (datetime.now(UTC) - timedelta(seconds=100)).isoformat()
    items = [
        {"id": f"push-{n}", "wallet_name": "w", "events": ["A", "SLOW"], "timestamp": stamp} for n in range(3)
    ]  # fmt: skip
    system.rlm("queue", "push", text="\n".join(map(json.dumps, items)))
    assert [json.loads(line) for line in system.redis.lrange(LISTS["events"], 0, -1)] == items[::-1]
    stats = system.json("queue", "stats")
    assert {key: stats[key] for key in ("events", "processing", "leftover")} == {
        "events": 3, "processing": 0, "leftover": 0,
    }  # fmt: skip
    assert stats["failed"] == system.redis.llen(LISTS["failed"])
    assert stats["by_type"]["SLOW"]["pending"] == 3
    assert 99 <= stats["by_type"]["A"]["oldest_seconds"] <= 160
    assert "push-1" in system.rlm("queue", "list", "--json").out
    system.rlm("queue", "clear", text="n\n", code=None)
    assert system.redis.llen(LISTS["events"]) == 3
    system.rlm("queue", "clear", "--yes")
    assert system.redis.llen(LISTS["events"]) == 0


def test_letters_are_retried_and_dropped(system, record, letters):
    system.api.say("b", OK)
    first, second, third = (letter["id"] for letter in letters)
    system.rlm("failed", "retry", first)
    assert len(system.letters()) == 2
    retried = system.run()
    assert retried["by_type"]["B"] == dict(zip(COUNTS, (1, 0, 1, 0, 0), strict=True))
    calls = system.api.of_event(letters[0]["event_id"])
    assert len(calls) == 2
    system.rlm("failed", "drop", second)
    assert [letter["id"] for letter in system.letters()] == [third]
    system.push(letters[1]["item"])  # its id is forgotten, so this is no duplicate
    assert system.run()["counts"]["completed"] == 1
    system.rlm("failed", "drop", "--type", "B", "--yes")
    assert system.letters() == []


def test_a_retried_letter_of_an_item_goes_back_to_the_list(system, record):
    system.redis.lpush(LISTS["events"], b'{"id": "x"}')
    system.run()
    before = system.letters()
    [letter] = [letter for letter in before if letter["reason"] == "missing_field"]
    system.rlm("failed", "retry", letter["id"])
    assert len(system.letters()) == len(before) - 1
    assert system.redis.lpop(LISTS["events"]) == '{"id": "x"}'


def test_an_open_run_is_shown(system, record):
    system.rlm("endpoint", "limit", "slow", "1 per 2 second")
    system.push_many(9, "SLOW", start="open")
    system.json("start")
    system.calls_under_way(len(system.api.calls) + 1)
    status = until("it is running", lambda: (now := system.json("status"))["state"] == "running" and now)
    assert 0 < status["seconds_left"] <= 20
    assert status["counts"]["taken"] == 9
    assert set(status["by_type"]) == set(system.types)
    assert status["trigger"] == "manual"
    assert status["plan"]["workers"] >= 1
    assert system.json("queue", "stats")["leftover"] == 0
    assert system.json("queue", "stats")["processing"] >= 1
    system.rlm("result", status["run_id"], code=3)
    system.rlm("cancel")
    system.rlm("queue", "drop", "--all", "--yes")


def test_doctor_names_what_is_wrong_with_redis(system, record):
    assert system.json("doctor")["ok"]
    system.redis.config_set("maxmemory-policy", "allkeys-lru")
    system.redis.config_set("maxmemory", "200mb")
    try:
        document = system.json("doctor", code=4)
        assert not document["ok"]
        assert any(not finding["ok"] and finding["remedy"] for finding in document["findings"])
    finally:
        system.redis.config_set("maxmemory-policy", "noeviction")
        system.redis.config_set("maxmemory", "0")


def test_without_redis_it_is_4(system):
    away = {"REDIS_URL": f"unix://{system.directory}/nothing.sock"}
    for words in (["status"], ["list"], ["queue", "stats"], ["start"], ["doctor"]):
        system.rlm(*words, code=4, env=away)


def test_without_a_reader_it_is_141(system):
    shown = subprocess.Popen([RLM, "config", "show"], cwd=system.directory, stdout=subprocess.PIPE)
    shown.stdout.close()
    assert shown.wait(10) == 141


def test_monitor_is_a_live_view(system, record):
    monitor = system.spawn("queue", "monitor", "--json", "--interval", "0.2")
    until("it has looked twice", lambda: system.log().count('"events"') >= 2, 10)
    monitor.send_signal(signal.SIGINT)
    assert monitor.wait(5) in {0, 130}
