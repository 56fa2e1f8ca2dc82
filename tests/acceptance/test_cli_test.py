"""`rlm test` and `rlm demo` on a real system, which they leave clean."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rlm.ledger.connect import make_client
from tests.acceptance.redisusers import make_users, url_of
from tests.conftest import running_server
from tests.wait import wait_until

pytestmark = pytest.mark.rest


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


def test_a_demo_runs_where_temporary_files_lie_deeper_than_a_socket_may(tmp_path):
    """And removes what it has made there."""
    place = tmp_path / ("t" * 100)
    place.mkdir()
    command = [sys.executable, "-m", "rlm", "demo", "--events", "20", "--speed", "30"]

    done = subprocess.run(
        command, check=False, env={**os.environ, "TMPDIR": str(place)}, cwd=tmp_path, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert "20 completed" in done.stdout
    assert list(place.iterdir()) == []


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
