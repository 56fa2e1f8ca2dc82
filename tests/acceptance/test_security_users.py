"""The users of docs/security.md: a whole system works as one of them, which may do nothing else."""

from __future__ import annotations

import json
from functools import partial

import pytest
import redis
from click.testing import CliRunner

from rlm.cli.group import rlm
from rlm.ledger.connect import make_client
from rlm.ledger.store import Store
from rlm.settings import load_settings
from rlm.telemetry.metrics import MetricsPage
from tests.acceptance.redisusers import PASSWORD, documented_users, make_users, url_of
from tests.acceptance.system import make_item
from tests.acceptance.tlsserver import tls_server
from tests.conftest import running_server
from tests.values import as_json
from tests.wait import wait_until

pytestmark = pytest.mark.rest

#: What RLM's user must not be able to do.
FORBIDDEN = [
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "appendonly", "no"),
    ("EVAL", "return 1", "0"),
    ("SCRIPT", "FLUSH"),
    ("SHUTDOWN", "NOSAVE"),
    ("ACL", "LIST"),
    ("MONITOR",),
    ("KEYS", "*"),
    ("GET", "somebody:elses"),
    ("LPUSH", "wallet_audit_other", "x"),
    ("PUBLISH", "somebody:elses", "x"),
    ("REPLICAOF", "NO", "ONE"),
    ("MIGRATE", "h", "1", "k", "0", "1"),
]


@pytest.fixture(params=["socket", "tls"])
def guarded(request, tmp_path):
    """A server with the documented users: the URL for each, and an unrestricted client.

    Once it is the bundled Valkey behind a Unix socket, once a redis-server with TLS.
    """
    if request.param == "socket":
        with running_server("valkey", tmp_path / "server") as url, make_client(url) as admin:
            make_users(admin)
            yield partial(url_of, url), admin
        return
    with tls_server(tmp_path / "server") as server, make_client(server.admin_url) as admin:
        make_users(admin)
        yield lambda user: server.url(f"{user}:{PASSWORD}@"), admin


def denied(admin):
    """Return what the server has refused to a user who lacked the right."""
    return {(entry["username"], entry["reason"], entry["object"]) for entry in admin.acl_log()}


def test_a_whole_system_needs_no_more_than_the_documented_user(guarded, make_system):
    """Runs, workers, commands and dead letters work as that user, and the server had nothing to refuse."""
    url, admin = guarded
    with make_system(env={"RLM_REDIS__URL": url("rlm"), "RLM_WORKERS__MIN": "1"}) as system:

        def command(*args, user="rlm", code=0, stdin=None):
            words = [*args, "--config", str(system.config)]
            done = CliRunner().invoke(
                rlm, words, env={"RLM_REDIS__URL": url(user), "RLM_WORKERS__MIN": "1"}, input=stdin
            )
            assert done.exit_code == code, (args, done.output, done.exception)
            return done.stdout

        system.start_both()
        wait_until(system.workers, timeout=30, message="a worker is ready")
        items = [make_item(f"e{number}", system.types[number % 5]) for number in range(60)]
        with make_client(url("audit")) as audit:
            audit.lpush("wallet_audit_events", *(json.dumps(item) for item in items), "no JSON", b'{"id": "x"}')
        system.api.set_fault(next(iter(system.settings.endpoints)), status=400)
        run_id = system.ask_for_run()
        command("status")
        assert f"run {run_id}" in command("status", user="watcher")
        record = system.await_record(run_id)

        assert record["state"] == "completed"
        assert record["counts"]["completed"] + record["counts"]["failed"] == 60
        letters = json.loads(command("failed", "list", "--json"))
        handles = [one["id"] for one in letters]
        for args in (
            ("status",),
            ("status", run_id),
            ("result", run_id),
            ("list",),
            ("queue", "stats"),
            ("worker", "list"),
            ("plan",),
            ("doctor",),
            ("failed", "show", handles[0]),
            ("failed", "retry", next(one["id"] for one in letters if one["event_id"])),
            ("failed", "drop", next(one["id"] for one in letters if not one["event_id"])),
        ):
            command(*args)
        pushed = json.dumps(make_item("p1", system.types[0]))
        command("queue", "push", stdin=pushed)
        command("queue", "clear", "--yes")
        command("queue", "push", stdin=pushed)
        second = json.loads(command("start", "--json"))["run_id"]
        command("cancel", second)
        wait_until(lambda: as_json(system.store.runs.record(second)), message="the run is closed")
        system.stop("scheduler")
        system.api.set_fault("*")  # a run of which every call fails ends with 1
        command("start", "--wait")

        refused = {entry for entry in denied(admin) if entry[0] == "rlm"}
        assert refused == set()
        pushed_events = {f"{one['id']}:{one['events'][0]}" for one in [*items, json.loads(pushed)]}
        system.assert_promises(pushed_events, [record])
        for args in (
            ("status",),
            ("result", run_id),
            ("list",),
            ("plan",),
            ("worker", "list"),
            ("endpoint", "list"),
            ("failed", "list"),
            ("compliance",),
            ("queue", "stats"),
            ("queue", "list"),
            ("explain", items[0]["id"]),
        ):
            command(*args, user="watcher")
        command("queue", "push", user="watcher", code=4, stdin=pushed)


@pytest.mark.parametrize("words", FORBIDDEN, ids=" ".join)
def test_what_rlm_does_not_need_its_user_may_not(valkey_users, words):
    """Another key, another channel, the server's settings, a script on the spot, wiping it: refused."""
    with make_client(valkey_users("rlm")) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*words)


def test_whoever_is_rlms_user_can_run_lua_within_its_keys(valkey_users):
    """The page says so: scripts that may be loaded may be anybody's, though they reach no other key."""
    with make_client(valkey_users("rlm")) as client:
        assert client.evalsha(client.script_load("return 6 * 7"), 0) == 42
        reach = client.script_load("return redis.call('GET', KEYS[1])")
        assert client.evalsha(reach, 1, "rlm:none") is None
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.evalsha(reach, 1, "somebody:elses")


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("audit", ("LRANGE", "wallet_audit_events", "0", "-1")),
        ("audit", ("RPOP", "wallet_audit_events")),
        ("audit", ("DEL", "wallet_audit_events")),
        ("audit", ("LPUSH", "wallet_audit_failed", "x")),
        ("audit", ("HGETALL", "rlm:run")),
        ("watcher", ("SET", "rlm:wanted", "9")),
        ("watcher", ("LPUSH", "wallet_audit_events", "x")),
        ("watcher", ("DEL", "rlm:lease")),
        ("watcher", ("GET", "somebody:elses")),
        ("watcher", ("PUBLISH", "rlm:wake:scheduler", "x")),
        ("watcher", ("KEYS", "*")),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_who_adds_cannot_read_and_who_looks_cannot_change(valkey_users, user, words):
    """The producer only pushes onto its list; the watcher only reads."""
    with make_client(valkey_users(user)) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*words)


def test_the_watcher_has_no_command_that_runs_a_script(valkey_users):
    """Exit code 4, as the page says: a script could write."""
    pause = ["endpoint", "pause", "rebalance_api"]
    done = CliRunner().invoke(rlm, pause, env={"RLM_REDIS__URL": valkey_users("watcher")})

    assert done.exit_code == 4, done.output
    assert "evalsha" in done.output


@pytest.mark.parametrize("user", ["rlm", "watcher"])
def test_the_metrics_need_the_watcher_and_no_more(valkey_users, user, tmp_path, monkeypatch):
    """What is asked for them is within the rights of who may only look."""
    monkeypatch.chdir(tmp_path)
    with Store(load_settings(None, {"RLM_REDIS__URL": valkey_users(user)}), keeps_server=True) as store:
        assert b"\nrlm_up 1.0\n" in MetricsPage(store).write()


@pytest.fixture(scope="module")
def valkey_users(tmp_path_factory):
    """The URL of a server for each of the documented users."""
    with running_server("valkey", tmp_path_factory.mktemp("users")) as url:
        with make_client(url) as admin:
            make_users(admin)
        yield lambda user: url_of(url, user)


def test_the_page_has_the_three_users():
    """Those the tests above use are the ones people read."""
    assert set(documented_users()) == {"rlm", "audit", "watcher"}
