from __future__ import annotations

from types import SimpleNamespace

import pytest

from rlm.core.errors import StoreForbiddenError, StoreUnfitError
from rlm.ledger.connect import make_client
from rlm.ledger.fitness import check_fitness, judge, require_fit
from tests.conftest import SERVERS, running_server
from tests.each import each

pytestmark = pytest.mark.both_servers

#: What a fit server says of itself, as far as it is looked at.
INFO = {
    "redis_version": "7.2.4",
    "cluster_enabled": 0,
    "maxmemory": 0,
    "maxmemory_policy": "noeviction",
    "aof_enabled": 1,
}


def over(client):
    """A store of which only its client matters."""
    return SimpleNamespace(client=client, require_schema=lambda **_: None)


@pytest.fixture(params=SERVERS)
def own_client(request, tmp_path):
    """A client of a server that only this test uses and may damage."""
    with running_server(request.param, tmp_path / "server") as url, make_client(url) as client:
        yield client


@each(
    ("info", "flaws"),
    [
        ({}, []),
        ({"redis_version": "6.2.0"}, []),
        ({"redis_version": "6.0.16"}, ["version"]),
        ({"redis_version": "5.0.14", "valkey_version": "0.1"}, ["version"]),
        ({"redis_version": "255.255.255-rc1"}, []),
        ({"cluster_enabled": 1}, ["cluster"]),
        ({"maxmemory": 1000}, []),
        ({"maxmemory_policy": "allkeys-lru"}, []),
        ({"maxmemory": 1000, "maxmemory_policy": "volatile-ttl"}, ["eviction"]),
        ({"aof_enabled": 0}, ["persistence"]),
    ],
)
def test_each_flaw_is_found_alone(info, flaws):
    """By which events could be lost."""
    assert [flaw.name for flaw in judge(INFO | info)] == flaws


def test_a_server_set_up_like_the_embedded_one_is_fit(redis_client):
    """The settings RLM gives its own server leave nothing to remark, on Valkey and on Redis."""
    assert check_fitness(over(redis_client)) == ()
    require_fit(over(redis_client))


def test_a_volatile_server_may_be_allowed(own_client):
    """And nothing else is let through."""
    own_client.config_set("appendonly", "no")

    require_fit(over(own_client), allow_volatile=True)

    own_client.config_set("maxmemory", "100mb")
    own_client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(StoreUnfitError, match="allkeys-lru"):
        require_fit(over(own_client), allow_volatile=True)


def test_a_user_who_may_not_ask_for_settings_is_judged_by_what_is_left(own_client):
    """An ACL that forbids CONFIG does not hide an evicting server, and does not refuse a good one."""
    own_client.acl_setuser("rlm", enabled=True, nopass=True, commands=["+@all", "-config"], keys=["*"])
    with client_as(own_client, "rlm") as client:
        assert check_fitness(over(client)) == ()

        own_client.config_set("maxmemory", "100mb")
        own_client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(StoreUnfitError, match="allkeys-lru"):
            require_fit(over(client))


def test_a_user_who_may_not_ask_at_all_is_refused(own_client):
    """An ACL that forbids INFO leaves nothing to judge by, so the server is refused."""
    own_client.acl_setuser("rlm", enabled=True, nopass=True, commands=["+@all", "-info"], keys=["*"])

    with client_as(own_client, "rlm") as client, pytest.raises(StoreForbiddenError, match="INFO"):
        require_fit(over(client))


def client_as(client, user):
    path = client.connection_pool.connection_kwargs["path"]
    return make_client(f"unix://{path}?username={user}&password=any")
