"""Errors of a server that cannot work now: the connection is closed, and the message gives the remedy."""

from __future__ import annotations

import pytest

from rlm.core.errors import StoreUnfitError, StoreUnreachableError
from rlm.ledger import Store
from rlm.ledger.connect import make_client, translated
from rlm.ledger.scripts import Script
from rlm.settings import load_settings
from rlm.web.app import trouble
from tests.each import each
from tests.store.fakeservers import FakeRedis, running

SETTINGS = load_settings(None, {})


@each(
    ("refusal", "remedy"),
    [
        ("READONLY You can't write against a read only replica.", "name its primary"),
        ("NOREPLICAS Not enough good replicas to write.", "bring its replicas back"),
        ("MISCONF Redis is configured to save RDB snapshots, but ...", "disk"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "raise maxmemory"),
        ("OOM command not allowed when used memory > 'maxmemory'. script: ab7f, on @user_script:49.", "raise maxm"),
        ("ERR Error running script (call to f_0): @user_script:1: -OOM command not allowed.", "raise maxmemory"),
        ("ERR DB index is out of range", "correct the number at the end of redis.url"),
        ("MASTERDOWN Link with MASTER is down", "promote a replica"),
        ("DENIED Redis is running in protected mode because ...", "ACL SETUSER default >PASSWORD"),
        ("LOADING Redis is loading the dataset in memory", "wait and try again"),
        ("CLUSTERDOWN Hash slot not served", "one primary with replicas and Sentinel"),
        ("ERR Error running script (call to f_0): @user_script:1: -NOREPLICAS Not enough good replicas.", "bring"),
    ],
)
def test_a_server_that_can_do_nothing_now_is_left(refusal, remedy):
    """The next try connects anew, and may so reach the one that took its place."""
    with running(FakeRedis()) as (server,), make_client(f"redis://127.0.0.1:{server.port}") as client:
        server.refusal = f"-{refusal}\r\n".encode()
        for _ in range(2):
            with pytest.raises(StoreUnreachableError, match=remedy), translated(client):
                client.get("k")

        assert server.heard.count("INFO") == 2


@each(
    ("refusal", "reason"),
    [
        ("LOADING Redis is loading the dataset in memory", "Redis is still loading its data"),
        ("MASTERDOWN Link with MASTER is down", "Redis does not answer"),
    ],
)
def test_the_health_page_knows_a_server_that_loads(refusal, reason):
    """Which answers by itself soon; of other trouble `rlm doctor` says more."""
    with running(FakeRedis()) as (server,), Store(SETTINGS, f"redis://127.0.0.1:{server.port}") as store:
        server.on_smembers = lambda _key: f"-{refusal}\r\n".encode()

        assert trouble(store).startswith(reason)


def test_any_other_refusal_leaves_the_connection():
    """What was wrong with the command is not the server's state."""
    with running(FakeRedis()) as (server,), make_client(f"redis://127.0.0.1:{server.port}") as client:
        server.refusal = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
        for _ in range(2):
            with pytest.raises(Exception, match="wrong kind"), translated(client):
                client.get("k")

        assert server.heard.count("INFO") == 1


@each("refusal", ["MOVED 3999 127.0.0.1:6381", "CROSSSLOT Keys in request don't hash to the same slot"])
def test_a_node_of_a_cluster_is_refused_in_words(refusal):
    """By a command and by a script alike."""
    with running(FakeRedis()) as (server,), make_client(f"redis://127.0.0.1:{server.port}") as client:
        server.refusal = f"-{refusal}\r\n".encode()
        server.on_evalsha = lambda *_: server.refusal
        with (
            pytest.raises(StoreUnfitError, match=r"Cluster.*one primary with replicas and Sentinel"),
            translated(client),
        ):
            client.get("k")
        with pytest.raises(StoreUnfitError, match=r"Cluster.*one primary with replicas and Sentinel"):
            Script("look_windows")(client, prefix="rlm:", windows=[])
