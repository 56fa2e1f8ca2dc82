"""The HTTP face: the documents of the commands, and orders, which need the token."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from contextlib import closing

import pytest

from tests.blackbox.api import Answer
from tests.blackbox.system import until

TOKEN = "a-token-of-more-than-16-characters"


def free_port():
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return listener.getsockname()[1]


class Web:
    """`rlm web` of a system, on a port of its own."""

    def __init__(self, system, token="", host="127.0.0.1"):
        self.port, self.token = free_port(), token
        env = {"RLM_WEB__TOKEN": token} if token else {}
        words = ["--port", str(self.port), "--host", host]
        if "--port" not in system.rlm("web", "--help").out:  # then the setting says where
            words, env["RLM_WEB__LISTEN"] = [], f"{host}:{self.port}"
        self.process = system.spawn("web", *words, **env)

    def ask(self, path, body=None, *, token=None, **headers):
        """Return status and text of an answer; with a body it is a POST."""
        token = self.token if token is None else token
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def up(self):
        def answers():
            try:
                return self.ask("/healthz")
            except OSError:
                return None

        until("rlm web answers", answers)
        return self

    def json(self, path, body=None):
        status, text = self.ask(path, body)
        assert status in {200, 202}, (path, status, text)
        return json.loads(text)


@pytest.fixture(scope="module")
def system(shared):
    system = shared({"A": {"rate_limit": "50/second"}, "B": {"rate_limit": "50/second"}}).up()
    system.api.say("b", Answer(400))
    system.push_many(3, "A", "B")
    system.run()
    return system


@pytest.fixture(scope="module")
def web(system):
    return Web(system, TOKEN).up()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/status", ["status"]), ("/api/runs", ["list"]), ("/api/queue", ["queue", "stats"]),
        ("/api/failed", ["failed", "list"]), ("/api/workers", ["worker", "list"]),
        ("/api/events/i-0:A", ["explain", "i-0:A"]),
    ],
)  # fmt: skip
def test_a_path_has_the_document_of_a_command(system, web, path, words):
    until("they agree", lambda: web.json(path) == system.json(*words), 10)


@pytest.mark.rest
def test_a_run_has_its_record(system, web):
    record = system.json("result")
    assert web.json(f"/api/runs/{record['run_id']}") == record
    assert web.ask("/api/runs/no-such-run")[0] == 404
    assert web.ask("/api/events/no-such-event:A")[0] == 404


def test_other_documents(system, web):
    assert {"forecast_seconds", "fits"} <= set(web.json("/api/plan"))
    assert {end["name"] for end in web.json("/api/endpoints")} == {"a", "b"}
    assert {"a", "b"} <= set(web.json("/api/compliance")["by_endpoint"])
    scaling = web.json("/api/scaling")
    assert scaling["wanted"] >= 1
    assert scaling["alive"] >= 1
    assert web.json("/openapi.json")["openapi"].startswith("3.")


def test_the_dashboard_and_health(web):
    status, text = web.ask("/")
    assert status == 200
    assert "<html" in text
    assert web.ask("/healthz", token="")[0] == 200


@pytest.mark.rest
def test_metrics_have_the_conditions(system, web):
    system.rlm("endpoint", "pause", "b")
    status, text = web.ask("/metrics")
    system.rlm("endpoint", "resume", "b")
    assert status == 200
    assert 'rlm_condition{code="' in text


def test_metrics_are_of_the_ledger(web):
    status, text = web.ask("/metrics")
    assert status == 200
    assert "# TYPE rlm_" in text
    assert 'endpoint="a"' in text


def test_a_write_needs_the_token(system, web):
    for token in ("", "another-token-0123456789"):
        for path in ("/api/runs", "/api/failed/drop", "/api/endpoints/a/pause"):
            assert web.ask(path, {}, token=token)[0] in {401, 403}
    assert len(system.json("list")) == 1


@pytest.mark.rest
def test_orders(system, web):
    web.json("/api/endpoints/a/pause", {"seconds": 60})
    assert health(system)["a"] == "paused"
    web.json("/api/endpoints/a/resume", {})
    assert health(system)["a"] == "ok"
    web.json("/api/endpoints/a/limit", {"rate": "1 per 1 second"})
    letters = system.json("failed", "list")
    system.api.say("b", Answer())
    web.json("/api/failed/retry", {"ids": [letters[0]["id"]]})
    web.json("/api/failed/drop", {"ids": [letters[1]["id"]]})
    assert len(system.letters()) == 1
    system.push_many(9, "A", start="order")
    begun = web.json("/api/runs", {})
    system.calls_under_way(len(system.api.calls) + 1)
    assert web.ask("/api/runs", {})[0] == 409
    web.json(f"/api/runs/{begun['run_id']}/cancel", {})
    record = until("it is closed", lambda: system.finished(begun["run_id"]))
    assert record["state"] == "cancelled"


def health(system):
    return {end["name"]: end["health"] for end in system.json("endpoint", "list")}


def test_a_host_that_is_not_listed_is_refused(web):
    for path in ("/", "/api/status", "/healthz"):
        assert 400 <= web.ask(path, Host="evil.example")[0] < 500


@pytest.mark.rest
def test_without_a_token_the_loopback_reads_and_does_not_write(system):
    web = Web(system).up()
    assert web.ask("/api/status")[0] == 200
    assert web.ask("/api/runs", {})[0] in {401, 403}
    assert web.ask("/api/runs", {}, Origin="http://evil.example")[0] in {401, 403}
    exposed = Web(system, host="0.0.0.0")
    assert exposed.process.wait(10) in {1, 2}


@pytest.mark.rest
def test_health_says_whether_redis_and_a_scheduler_are_there(fresh):
    system = fresh({"A": {"rate_limit": "50/second"}})
    web = Web(system, TOKEN).up()
    assert web.ask("/healthz")[0] == 503
    scheduler = system.spawn("scheduler")
    until("it is healthy", lambda: web.ask("/healthz")[0] == 200)
    scheduler.kill()
    scheduler.wait()
    until("it is not", lambda: web.ask("/healthz")[0] == 503)
    system.spawn("scheduler")
    until("it is again", lambda: web.ask("/healthz")[0] == 200)
    system.server.kill()
    until("Redis is away", lambda: web.ask("/healthz")[0] == 503)
