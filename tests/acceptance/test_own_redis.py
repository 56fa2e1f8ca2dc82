"""A user's own Redis, by URL, works the same; one that would lose events is refused at the start."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from rlm.cli.group import rlm
from rlm.ledger import Store
from rlm.ledger.connect import make_client
from rlm.ledger.fitness import require_fit
from rlm.settings import load_settings
from tests.wait import wait_until

pytestmark = pytest.mark.rest


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def redis_server(directory, *options):
    """Run Debian's server on a loopback port with these options; yield its URL."""
    binary = shutil.which("redis-server")
    if binary is None and os.environ.get("CI"):
        pytest.fail("redis-server is not installed: apt-get install redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed")
    directory.mkdir()
    port = free_port()
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


def test_a_redis_that_keeps_nothing_is_refused_unless_that_is_allowed(make_system, tmp_path):
    """Without an append-only file each process exits with 4 and the remedy; `--allow-volatile` is the way past."""
    with (
        redis_server(tmp_path / "redis", "--appendonly", "no") as url,
        make_system(env={"REDIS_URL": url}) as system,
    ):
        for process in (["scheduler"], ["supervisor"], ["worker", "start"]):
            refused = system.rlm(*process, check=False)
            assert refused.returncode == 4, process
            assert "set appendonly to yes" in refused.stderr
            assert "--allow-volatile" in refused.stderr
        system.push_evenly(10)
        done = system.rlm("start", "--wait", "--allow-volatile")

        assert "completed" in done.stdout


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--rename-command", "CONFIG", ""), marks=pytest.mark.long),
        ("--user", "default", "on", "nopass", "~*", "&*", "+@all", "-config"),
    ],
    ids=["renamed", "forbidden"],
)
def test_a_managed_service_without_config_is_fit(tmp_path, monkeypatch, options):
    """Nothing is asked of it; a run would start."""
    with redis_server(tmp_path / "redis", "--appendonly", "yes", *options) as url:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("REDIS_URL", url)
        done = CliRunner().invoke(rlm, ["doctor"])

        assert done.exit_code == 0, done.output
        with Store(load_settings(None, {"REDIS_URL": url}), keeps_server=True) as store:
            require_fit(store)
