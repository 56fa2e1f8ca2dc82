"""A Redis of one's own, by URL, works the same; one that would lose events is refused at the start."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from contextlib import contextmanager

import pytest

from rlm.ledger.connect import make_client
from tests.wait import wait_until

pytestmark = pytest.mark.rest


@contextmanager
def redis_server(directory, *options):
    """Run Debian's server on a loopback port, as somebody might have set it up; yield its URL."""
    binary = shutil.which("redis-server")
    if binary is None and os.environ.get("CI"):
        pytest.fail("redis-server is not installed: apt-get install redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed")
    directory.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", "", *options]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    url = f"redis://127.0.0.1:{port}/0"
    try:
        with make_client(url) as client:
            wait_until(lambda: answers(client), message="the server answers")
        yield url
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(10)


def answers(client):
    try:
        return client.ping()
    except Exception:  # noqa: BLE001  # not yet
        return False


def test_a_run_on_a_redis_of_ones_own(make_system, tmp_path):
    """Scheduler, supervisor, workers and commands all use the Redis that `REDIS_URL` names; no server is started."""
    with (
        redis_server(tmp_path / "redis", "--appendonly", "yes") as url,
        # A window for a busy machine to be done in, too.
        make_system(env={"REDIS_URL": url, "RLM_RUN__WINDOW_SECONDS": "60"}) as system,
    ):
        system.start_both()
        events = system.push_evenly(100)

        record = system.await_record(system.ask_for_run())

        assert record["state"] == "completed"
        assert record["counts"]["completed"] == 100
        system.assert_promises(events, [record])
        assert {path.suffix for path in (tmp_path / ".rlm").iterdir()} == {
            ".json"
        }  # what the conductor has seen, no server


def test_a_redis_that_keeps_nothing_is_refused_unless_that_is_allowed(make_system, tmp_path):
    """Without an append-only file the scheduler exits with 4 and the remedy; `--allow-volatile` is the way past."""
    with (
        redis_server(tmp_path / "redis", "--appendonly", "no") as url,
        make_system(env={"REDIS_URL": url}) as system,
    ):
        refused = system.rlm("scheduler", check=False)
        system.push_evenly(10)
        done = system.rlm("start", "--wait", "--allow-volatile")

        assert refused.returncode == 4
        assert "set appendonly to yes" in refused.stderr
        assert "--allow-volatile" in refused.stderr
        assert "completed" in done.stdout
