"""An outage of Redis makes no process count as frozen: each keeps touching its file (`RLM_ALIVE_FILE`)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import redis

from tests.conftest import running_server
from tests.containers.containerfile import ROOT
from tests.wait import wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]
#: What the health check of the image takes for frozen, seconds.
TOO_OLD = 60
ROLES = {"scheduler": [], "supervisor": [], "web": ["--port", "0"], "worker": ["start"]}


@pytest.fixture
def frozen(tmp_path):
    """Every role at work, each with its file, on a Redis that then accepts connections but answers nothing."""
    with running_server("valkey", tmp_path / "server") as url:
        pid = redis.Redis.from_url(url).info("server")["process_id"]
        started = []
        for role, options in ROLES.items():
            places = {"RLM_ALIVE_FILE": str(tmp_path / role), "RLM_DATA_DIR": str(tmp_path / f"of-{role}")}
            command = [sys.executable, "-m", "rlm", role, *options]
            env = {**os.environ, **places, "REDIS_URL": url, "PYTHONPATH": str(ROOT)}
            with (tmp_path / f"{role}.log").open("w") as log:
                started.append(subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log))
        try:
            wait_until(lambda: all((tmp_path / role).exists() for role in ROLES), timeout=30)
            os.kill(pid, signal.SIGSTOP)
            yield tmp_path
        finally:
            os.kill(pid, signal.SIGCONT)
            for one in started:
                one.terminate()
            for one in started:
                one.wait(timeout=30)


def test_nothing_is_restarted_for_a_redis_that_answers_nothing(frozen):
    """For longer than the check takes for frozen: no file gets near to that age."""
    oldest, until = 0.0, time.monotonic() + TOO_OLD + 15
    while time.monotonic() < until:
        oldest = max(oldest, *(time.time() - (frozen / role).stat().st_mtime for role in ROLES))
        time.sleep(0.5)

    assert oldest < TOO_OLD / 2
