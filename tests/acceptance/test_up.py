"""`rlm up`: real processes under the foreman, stopped together; no call is cut, nothing remains."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from rlm.core.endpoint import Endpoint, EventType, Limit
from rlm.ledger import Store
from rlm.ledger.processes import Role
from rlm.sandbox.mockapi import MockApi
from rlm.settings import load_settings
from tests.leftbehind import nothing_left_behind
from tests.values import as_json
from tests.wait import wait_until

pytestmark = pytest.mark.rest

#: One endpoint that is limited by nothing but its lanes.
CONFIG = """
[run]
window_seconds = {every}
every_seconds = {every}
[workers]
max = 2
[types.T]
processing_seconds = {takes}
rate_limit = "1000/second"
endpoints = [{{ name = "t_api", url = "{url}/t_api" }}]
"""


class Installation:
    """A directory with a configuration whose API the test serves, and `rlm up` in it."""

    def __init__(self, directory, api, *, every, takes):
        self.directory = directory
        self.api = api
        self.config = directory / "rlm.toml"
        self.config.write_text(CONFIG.format(every=every, takes=takes, url=api.url))
        self.settings = load_settings(self.config, {})

    @contextmanager
    def up(self, *command, **env):
        """Run it, or another command; a failing test leaves none running."""
        process = subprocess.Popen(
            command or [sys.executable, "-m", "rlm", "up", "--config", str(self.config)],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **env},
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=30)

    def push(self, number):
        """Push events, and wait until a process can send them."""
        items = [json.dumps({"id": f"e{n}", "wallet_name": f"w{n}", "events": ["T"]}).encode() for n in range(number)]
        with Store(self.settings, keeps_server=True) as store:
            store.intake.push(items)
            wait_until(lambda: all(map(store.processes.alive, (Role.SCHEDULER, Role.SUPERVISOR))), timeout=20)

    def start_run(self):
        """Let the scheduler start a run now, and wait until half of the ten lanes have a call in flight."""
        with Store(self.settings, keeps_server=True) as store:
            store.schedule.request()
        wait_until(lambda: self.unanswered() >= 5, timeout=20, message="five calls are in flight")

    def unanswered(self):
        return sum(one.status is None for one in self.api.arrivals)


@pytest.fixture
def install(tmp_path):
    """Make an installation; afterwards only its files are left."""
    with nothing_left_behind(tmp_path):
        apis = []

        def make(*, every=20.0, takes=1.0):
            endpoint = Endpoint("t_api", "http://localhost/t_api", Limit.parse("1000/second"), 10.0)
            apis.append(MockApi([EventType("T", 1, takes, (endpoint,))]))
            apis[-1].start()
            return Installation(tmp_path, apis[-1], every=every, takes=takes)

        try:
            yield make
        finally:
            for api in apis:
                api.stop()


@pytest.mark.parametrize(
    "signum",
    [signal.SIGTERM, *(pytest.param(one, marks=pytest.mark.long) for one in (signal.SIGINT, signal.SIGHUP))],
    ids=lambda one: one.name,
)
def test_cuts_no_call_when_it_is_stopped_in_the_middle_of_a_run(install, signum):
    """Every call that has arrived is answered and counted; what was not sent is a leftover."""
    here = install(takes=1.0)
    with here.up() as process:
        here.push(120)
        here.start_run()

        process.send_signal(signum)
        output, _ = process.communicate(timeout=20)

    assert process.returncode == 0, output
    statuses = [one.status for one in here.api.arrivals]
    assert set(statuses) == {200}
    with Store(here.settings, keeps_server=True) as store:
        record = as_json(store.runs.record(store.runs.history(1)[0]))
    assert record["state"] == "partial"
    assert record["counts"]["completed"] == len(statuses)
    assert record["counts"]["leftover"] == 120 - len(statuses)


def test_stops_all_when_one_ends_and_takes_its_exit_code(install):
    """The Procfile beside the configuration is run, `rlm` found without a PATH to it; its odd one out ends the rest."""
    here = install()
    (here.directory / "Procfile").write_text(
        "scheduler: exec rlm scheduler\nsupervisor: exec rlm supervisor\nother: sleep 2; exit $CODE\n"
    )
    (here.directory / ".env").write_text("CODE=7\n")

    with here.up(PATH="/usr/bin:/bin") as process:
        output, _ = process.communicate(timeout=30)

    assert process.returncode == 7
    assert "scheduler stopped" in output
    assert "supervisor stopped" in output
