"""`rlm test`: success on a real system, which it leaves clean; its messages on a bad one."""

from __future__ import annotations

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

TYPES = """
[types.ONE]
rate_limit = "40/minute; 2000/hour"
endpoints = [{{ name = "first", url = "{url}/first" }}, {{ name = "second", url = "{url}/second" }}]
[types.TWO]
rate_limit = "1000/second"
endpoints = [{{ name = "third", url = "{url}/third" }}]
"""


def test_an_installation_that_works_is_told_to_and_left_as_it_was(tmp_path, valkey_only_url):
    """All is as promised, the configured endpoints saw nothing, what waits on the list waits there still."""
    with Installation(tmp_path, valkey_only_url, TYPES.format(url="http://127.0.0.1:1")) as inst:
        types = load_settings(inst.config, {}).event_types
        with MockApi(types) as configured:
            inst.config.write_text(inst.config.read_text().replace("http://127.0.0.1:1", configured.url))
            inst.push(steps.item("waits", "ONE"))

            document = inst.json("test")

            assert configured.arrivals == []
        left = {key.decode() for key in inst.store.client.keys(f"{inst.prefix}*")}
        assert inst.store.intake.waiting() == 1

    assert document["as_promised"], document
    assert document["record"]["counts"]["completed"] == 50
    assert not {key for key in left if "-test-" in key}


def test_a_redis_that_is_not_fit_or_not_there_is_exit_four(tmp_path, valkey_only_url, monkeypatch):
    """With what is wrong and the remedy, and nothing is started."""
    real = fitness.judge
    with Installation(tmp_path, valkey_only_url) as inst:
        monkeypatch.setattr(fitness, "judge", lambda info, **more: real({**info, "aof_enabled": 0}, **more))
        unfit = inst.rlm("test", code=4).stderr
        inst.config.write_text(f'[redis]\nurl = "unix://{tmp_path}/nobody.sock"\n')
        away = inst.rlm("test", code=4).stderr

    assert "set appendonly to yes" in unfit
    assert "nobody.sock cannot be reached" in " ".join(away.split())


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
    """TERM, while its processes come up: exit 130."""
    with running_server("valkey", tmp_path / "server") as url, make_client(url) as client:
        test, pids = begun(tmp_path, url)
        test.send_signal(signal.SIGTERM)

        assert test.wait(30) == 130
        assert gone(pids)
        assert client.keys("*") == []


@pytest.mark.long
def test_the_documented_user_of_redis_may_do_it(tmp_path):
    """And it removes what it leaves."""
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
        assert admin.keys("*") == []
        assert admin.acl_log() == []
