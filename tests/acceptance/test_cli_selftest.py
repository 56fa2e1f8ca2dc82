"""`rlm test`: success on a real system, which it leaves clean; its messages on a bad one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rlm.ledger import fitness
from rlm.ledger.connect import make_client
from rlm.sandbox.mockapi import MockApi
from rlm.settings import load_settings
from tests.acceptance.cli import Installation
from tests.acceptance.redisusers import make_users, url_of
from tests.conftest import running_server
from tests.store import steps
from tests.wait import wait_until

pytestmark = pytest.mark.rest

STEPS = [
    *("redis", "items", "processes", "run", "events", "idempotency", "limits", "record", "dead letters", "books"),
    *("gone", "clean"),
]
TYPES = """
[types.ONE]
rate_limit = "1/minute; 20/hour"
endpoints = [{{ name = "first", url = "{url}/first" }}, {{ name = "second", url = "{url}/second" }}]
[types.TWO]
rate_limit = "1000/second"
endpoints = [{{ name = "third", url = "{url}/third" }}]
"""


def test_an_installation_that_works_is_told_to_and_left_as_it_was(tmp_path, valkey_only_url):
    """Every step is well, the configured endpoints saw nothing, what waits on the list waits there still."""
    with Installation(tmp_path, valkey_only_url, TYPES.format(url="http://127.0.0.1:1")) as inst:
        types = load_settings(inst.config, {}).event_types
        with MockApi(types) as configured:
            inst.config.write_text(inst.config.read_text().replace("http://127.0.0.1:1", configured.url))
            inst.push(steps.item("waits", "ONE"))

            document = inst.json("test")

            assert configured.arrivals == []
        left = {key.decode() for key in inst.store.client.keys(f"{inst.prefix}*")}
        assert inst.store.intake.waiting() == 1

    assert [step["name"] for step in document["steps"]] == STEPS
    assert all(step["ok"] for step in document["steps"]), document
    assert (document["ok"], document["events"], document["calls"]) == (True, 8, 8)
    assert document["prefix"].startswith(f"{inst.prefix}-test-")
    assert not {key for key in left if "-test-" in key}


def test_a_redis_that_is_not_fit_or_not_there_is_exit_four(tmp_path, valkey_only_url, monkeypatch):
    """With what is wrong and the remedy, and nothing is started."""
    real = fitness.judge
    with Installation(tmp_path, valkey_only_url) as inst:
        monkeypatch.setattr(
            fitness, "judge", lambda info, *rest, **more: real({**info, "aof_enabled": 0}, *rest, **more)
        )
        unfit = inst.json("test", code=4)
        shown = inst.rlm("test", code=4).stdout
        inst.config.write_text(f'[redis]\nurl = "unix://{tmp_path}/nobody.sock"\n')
        away = inst.json("test", code=4)

    assert [(step["name"], step["ok"]) for step in unfit["steps"]] == [("redis", False)]
    assert "set appendonly to yes" in unfit["steps"][0]["remedy"]
    assert "fail  redis" in shown
    assert shown.endswith("1 of 1 step failed, in 0.0 s.\n")
    assert (away["prefix"], away["ok"]) == (None, False)
    assert "nobody.sock cannot be reached" in away["steps"][0]["message"]


def begun(tmp_path, url):
    """Start a self-test as a process; return when its processes are up."""
    with (tmp_path / "out").open("wb") as out:
        test = subprocess.Popen(
            [sys.executable, "-m", "rlm", "test", "--json"],
            stdout=out,
            stderr=out,
            env={**os.environ, "REDIS_URL": url, "TMPDIR": str(tmp_path)},
            cwd=tmp_path,
            start_new_session=True,
        )
    wait_until(lambda: len(children_of(test.pid)) == 2, timeout=30, message="its processes are started")
    return test, children_of(test.pid)


def children_of(pid):
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pids):
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_one_that_is_told_to_stop_leaves_nothing(tmp_path):
    """TERM, while its processes come up: exit 130, and the document says how far it came."""
    with running_server("valkey", tmp_path / "server") as url, make_client(url) as client:
        test, pids = begun(tmp_path, url)
        test.send_signal(signal.SIGTERM)

        assert test.wait(30) == 130
        assert gone(pids)
        assert client.keys("*") == []

    document = json.loads((tmp_path / "out").read_text())
    assert [step["message"] for step in document["steps"] if not step["ok"]] == ["it was interrupted"]
    assert document["steps"][-1]["name"] == "clean"
    assert document["interrupted"]
    assert document["log"] == []


@pytest.mark.long
def test_the_processes_of_one_that_is_killed_end_by_themselves(tmp_path):
    """Its keys are noted, for the next one to remove."""
    with running_server("valkey", tmp_path / "server") as url, make_client(url) as client:
        test, pids = begun(tmp_path, url)
        test.kill()
        test.wait()

        wait_until(lambda: gone(pids), timeout=30, message="they have ended")
        assert client.hlen("rlm-test-running") == 1


@pytest.mark.long
def test_the_documented_user_of_redis_may_do_it(tmp_path):
    """And may not see the names of all keys: what it removes it knows by name."""
    with running_server("valkey", tmp_path / "server") as url, make_client(url) as admin:
        make_users(admin)
        done = subprocess.run(
            [sys.executable, "-m", "rlm", "test"],
            env={**os.environ, "REDIS_URL": url_of(url, "rlm")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 0, done.stdout + done.stderr
        assert [key for key in admin.keys("*") if admin.ttl(key) == -1] == []
        wait_until(lambda: admin.keys("*") == [], timeout=30, message="the entries of those that signed off are over")
        assert {entry["object"] for entry in admin.acl_log()} == {"config|get", "scan"}
