"""The embedded server, and the commands that bring everything with them."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from contextlib import closing, suppress

import pytest
import redis

from tests.blackbox.system import AT_ONCE, RLM, until

pytestmark = pytest.mark.rest


class Embedded:
    """The embedded server of RLM, as another program reaches it: by its port."""

    def __init__(self):
        with closing(socket.create_server(("127.0.0.1", 0))) as listener:
            self.port = listener.getsockname()[1]
        self.url = "embedded"
        self.client = redis.Redis(port=self.port, decode_responses=True, retry=AT_ONCE)
        self._pid = None

    def answers(self):
        try:
            self._pid = self.client.info("server")["process_id"]
        except redis.RedisError:
            return False
        return True

    def close(self):
        self.answers()  # the pid of the last that was started
        self.client.close()
        if self._pid and not self.gone():
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def gone(self):
        with suppress(OSError), closing(socket.create_connection(("127.0.0.1", self.port), 1)):
            return False
        return True


@pytest.fixture
def system(fresh):
    server = Embedded()
    system = fresh({"A": {"rate_limit": "5 per 1 second"}}, server=server, run={"window_seconds": 8})
    system.settings["redis"] = {"url": "embedded", "embedded_port": server.port}
    system.write()
    (system.directory / "Procfile").write_text("scheduler: exec rlm scheduler\nsupervisor: exec rlm supervisor\n")
    system.env["PATH"] = f"{RLM.parent}:{os.environ['PATH']}"
    return system


def test_up_starts_all_and_ends_all(system):
    up = system.spawn("up")
    until("the server answers", system.server.answers)
    until("a worker", system.workers)
    system.push_many(12, "A")
    assert system.run()["counts"]["completed"] == 12
    until("its file is in .rlm", lambda: any((system.directory / ".rlm").iterdir()))
    system.assert_promises(by_hand=True)
    up.terminate()
    assert up.wait(15) == 0
    until("the server is gone", system.server.gone, 5)


def test_the_first_starts_it_the_last_ends_it_and_it_keeps_all(system):
    supervisor = system.spawn("supervisor")
    until("the server answers", system.server.answers)
    scheduler = system.spawn("scheduler")
    system.push_many(20, "A")
    system.run()
    supervisor.terminate()
    supervisor.wait(10)
    assert system.server.answers()
    system.push_many(3, "A", start="kept")
    scheduler.terminate()
    scheduler.wait(10)
    until("the server is gone", system.server.gone, 5)
    up = system.spawn("up")
    until("it answers again", system.server.answers)
    assert system.run()["counts"]["taken"] == 3
    assert len(system.json("list")) >= 2
    system.assert_promises(by_hand=True)
    up.terminate()
    up.wait(15)


def test_a_command_that_finds_none_says_what_starts_it(system):
    for words in (["status"], ["queue", "stats"], ["list"]):
        result = system.rlm(*words, code=None)
        assert result.code in {1, 4}
        assert "rlm" in result.err
    assert system.server.gone()


def test_all_of_up_is_killed_and_the_next_goes_on(system):
    system.spawn("up")
    until("the server answers", system.server.answers)
    until("a worker", system.workers)
    system.push_many(20, "A")
    system.rlm("start")
    system.calls_under_way(3)
    system.stop()
    up = system.spawn("up")
    until("all is there", lambda: system.server.answers() and system.rlm("status", code=None).code == 0)
    until("all is done", lambda: system.run(code=None)["counts"]["leftover"] == 0, 40)
    system.assert_promises(by_hand=True)
    up.terminate()
    up.wait(15)


def test_demo_shows_a_window_in_which_all_is_as_promised(system):
    begun = time.monotonic()
    (system.directory / "empty.toml").write_text("")
    document = system.json("demo", "--config", "empty.toml", "--events", "300", "--speed", "30")
    assert time.monotonic() - begun < 30
    record = document.get("record", document)
    assert record["counts"]["taken"] + record["counts"]["duplicates"] >= 300
    assert record["counts"]["completed"] == record["counts"]["taken"]
    assert system.server.gone()


def test_test_leaves_nothing_behind(fresh):
    system = fresh({"A": {"rate_limit": "5 per 1 second"}})
    system.rlm("test")
    assert system.redis.dbsize() == 0
    assert system.api.calls == []


def test_the_mock_api_enforces_the_limits(fresh):
    system = fresh({"A": {"rate_limit": "3/minute"}})
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    system.spawn("mock-api", "--port", str(port))

    def status():
        try:
            with closing(socket.create_connection(("127.0.0.1", port), 5)) as connection:
                body = json.dumps({"event_id": "i:A", "event_type": "A"}).encode()
                head = f"POST /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)
                return int(connection.recv(100).split()[1])
        except OSError:
            return None

    until("it answers", status)
    assert [status() for _ in range(4)] == [200, 200, 429, 429]
