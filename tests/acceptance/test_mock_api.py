"""The mock API over real sockets. It is the judge of RLM, so it has tests itself."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest

from rlm.core.endpoint import Budget, Endpoint, EventType, Limit
from rlm.sandbox import mockapi
from rlm.sandbox.mockapi import MockApi, recount
from tests.values import replace

#: Seconds until something that ought to have happened has not.
PATIENCE = 10


class SetClock:
    """A clock that a test sets; it stamps arrivals."""

    def __init__(self):
        self.seconds = 1000.0

    def now(self):
        return time.time()

    def monotonic(self):
        return self.seconds

    def sleep(self, seconds):
        self.seconds += seconds


def one_type(limit="30/minute", seconds=0.0, names=("a", "b")):
    endpoints = tuple(Endpoint(name, f"http://elsewhere:1/{name}", Limit.parse(limit), 10.0) for name in names)
    return EventType("T", 5, seconds, endpoints)


def connect(api):
    return closing(http.client.HTTPConnection("127.0.0.1", api.port, timeout=PATIENCE))


def post(connection, path="/a", event_id="i:T", attempt=1):
    body = json.dumps({"event_id": event_id, "event_type": "T", "run_id": "r", "attempt": attempt, "item": {}})
    connection.request("POST", path, body, {"Idempotency-Key": event_id})
    response = connection.getresponse()
    response.read()
    return response


def get(api, path):
    with connect(api) as connection:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())


def wait_until(true, what):
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(0.005)


def test_refuses_the_31st_call_at_59_9_s_and_accepts_it_at_60_1_s(monkeypatch):
    """The limit holds to the tenth of a second, for each endpoint alone, and the log proves it."""
    clock = SetClock()
    monkeypatch.setattr(mockapi, "system_clock", clock)
    with MockApi([one_type()]) as api, connect(api) as connection:
        first = [post(connection, event_id=f"{n}:T").status for n in range(30)]
        clock.sleep(59.9)
        early, other = post(connection, event_id="early:T"), post(connection, "/b")
        clock.sleep(0.2)
        late = post(connection, event_id="late:T")

        assert first == [200] * 30
        assert (early.status, early.headers["Retry-After"]) == (429, "1")
        assert (other.status, late.status) == (200, 200)
        arrivals = [arrival for arrival in api.arrivals if arrival.endpoint == "a"]
        # Every period there can be is one that ends with an arrival: count each by hand.
        accepted = [arrival.at for arrival in arrivals if arrival.accepted]
        assert max(sum(end - 60 < at <= end for at in accepted) for end in accepted) == 30
        assert recount(arrivals, Limit.parse("30/minute").rules[0]) == api.summary()["a"].most == 30
        assert [arrival.event_id for arrival in arrivals if not arrival.accepted] == ["early:T"]


def test_faults_are_changed_over_http():
    """A program elsewhere can make an endpoint fail and heal it."""
    with MockApi([one_type()]) as api, connect(api) as connection:

        def change(faults):
            connection.request("POST", "/_mock/faults", json.dumps(faults))
            return json.loads(connection.getresponse().read())

        assert change({"a": {"status": 418}})["a"]["status"] == 418
        failing = post(connection).status
        change({"a": {}})

        assert (failing, post(connection).status) == (418, 200)


def test_log_and_summary_are_read_over_http(tmp_path):
    """Over HTTP, in the file and in process, the log says the same."""
    path = tmp_path / "log.jsonl"
    with MockApi([one_type("1/minute")], log_path=path) as api, connect(api) as connection:
        for attempt in (1, 2):
            post(connection, attempt=attempt)

        log = get(api, "/_mock/log")
        assert [(one["attempt"], one["status"], one["accepted"]) for one in log] == [(1, 200, True), (2, 429, False)]
        assert log == [json.loads(line) for line in path.read_text().splitlines()]
        assert get(api, "/_mock/summary")["a"] == {
            "calls": 2,
            "accepted": 1,
            "refused": 1,
            "cut": 0,
            "most": 1,
            "limit": "1/minute",
        }


def test_the_file_can_be_followed_and_is_continued(tmp_path):
    """A line is there before the call is answered, with the status to come; a server started again adds to it."""
    path = tmp_path / "log.jsonl"
    for lines in (1, 2):
        with MockApi([one_type("1/minute", seconds=30.0)], log_path=path) as api, connect(api) as connection:
            connection.request("POST", "/a", b"{}")
            wait_until(lambda lines=lines: path.read_text().count("\n") == lines, "the line")

            assert json.loads(path.read_text().splitlines()[-1])["status"] == 200
            assert [arrival.status for arrival in api.arrivals] == [None]


def test_a_budget_is_enforced_over_its_endpoints(tmp_path):
    """Over HTTP and in process the budget's count is of all its endpoints, and the endpoints' own is as ever."""
    account = Budget("account", Limit.parse("2/minute"))
    kind = one_type("30/minute")
    kind = replace(kind, endpoints=tuple(replace(one, budget=account) for one in kind.endpoints))
    with MockApi([kind]) as api, connect(api) as connection:
        statuses = [post(connection, path).status for path in ("/a", "/b", "/a", "/b")]

        assert statuses == [200, 200, 429, 429]
        assert (api.budget_summary()["account"].most, api.budget_summary()["account"].refused) == (2, 2)
        assert get(api, "/_mock/budgets")["account"]["accepted"] == 2
        assert set(get(api, "/_mock/summary")) == {"a", "b"}


COMMAND = """
from types import SimpleNamespace
import rlm.settings
from rlm.cli.sandbox import mock_api
from rlm.core.endpoint import Endpoint, EventType, Limit
types = (EventType("T", 5, 0.0, (Endpoint("a", "http://h/a", Limit.parse("2/minute"), 1.0),)),)
rlm.settings.load_settings = lambda path: SimpleNamespace(event_types=types)
mock_api()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_end(number):
    """It says where it listens, ends with code 0 on either signal with a client connected, and sums up."""
    command = [sys.executable, "-c", COMMAND, "--port", "0", "--json", "--fail", "a=1"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        try:
            boot = process.stderr.readline()
            port = int(boot.rsplit(":", 1)[1])
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
                statuses = [post(connection).status for _ in range(3)]
                process.send_signal(number)
                out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()

    assert f"pid {process.pid}, serves 1 endpoints on http://127.0.0.1" in boot
    assert statuses == [500, 500, 429]
    assert (process.returncode, err) == (0, "")
    assert json.loads(out)["a"] == {"calls": 3, "accepted": 2, "refused": 1, "cut": 0, "most": 2, "limit": "2/minute"}
