from __future__ import annotations

from types import SimpleNamespace

import pytest

from rlm.core.errors import StoreForbiddenError, StoreUnfitError
from rlm.ledger.connect import make_client
from rlm.ledger.fitness import Severity, check_fitness, judge, require_fit
from tests.conftest import SERVERS, running_server
from tests.each import each

pytestmark = pytest.mark.both_servers

#: What a fit server says of itself, as far as it is looked at.
INFO = {
    "redis_version": "7.2.4",
    "role": "master",
    "connected_slaves": 0,
    "cluster_enabled": 0,
    "maxmemory": 0,
    "maxmemory_policy": "noeviction",
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
}


def over(client):
    """A store of which only its client matters."""
    return SimpleNamespace(client=client, require_schema=lambda **_: None)


@pytest.fixture(params=SERVERS)
def own_client(request, tmp_path):
    """A client of a server that only this test uses and may damage."""
    with running_server(request.param, tmp_path / "server") as url, make_client(url) as client:
        yield client


def bad(findings):
    return {finding.name: finding.severity for finding in findings if not finding.ok}


@each(
    ("info", "expected"),
    [
        ({}, {}),
        ({"redis_version": "6.2.0"}, {}),
        ({"redis_version": "6.0.16"}, {"version": Severity.ERROR}),
        ({"redis_version": "5.0.14", "valkey_version": "0.1"}, {"version": Severity.ERROR}),
        ({"redis_version": "255.255.255-rc1"}, {}),
        ({"role": "slave"}, {"writes": Severity.ERROR}),
        ({"cluster_enabled": 1}, {"writes": Severity.ERROR}),
        ({"connected_slaves": 2, "min_slaves_good_slaves": 1}, {}),
        ({"min_slaves_good_slaves": 0}, {"writes": Severity.ERROR}),
        ({"aof_last_write_status": "err"}, {"writes": Severity.ERROR}),
        ({"maxmemory": 1000}, {}),
        ({"maxmemory": 1000, "used_memory": 900}, {}),
        ({"maxmemory": 1000, "used_memory": 1001}, {"writes": Severity.ERROR}),
        ({"maxmemory": 1000, "used_memory": 1001, "mem_not_counted_for_evict": 1}, {}),
        ({"maxmemory": 0, "used_memory": 901}, {}),
        ({"maxmemory_policy": "allkeys-lru"}, {"eviction": Severity.WARNING}),
        ({"maxmemory": 1000, "maxmemory_policy": "volatile-ttl"}, {"eviction": Severity.ERROR}),
        ({"aof_enabled": 0}, {"persistence": Severity.ERROR}),
    ],
)
def test_each_fault_is_found_alone(info, expected):
    """One thing that is wrong is one finding, an error where events could be lost or refused, else a warning."""
    findings = list(judge(INFO | info))

    assert bad(findings) == expected
    assert all(finding.remedy for finding in findings if not finding.ok)


def test_a_server_set_up_like_the_embedded_one_is_fit_without_a_warning(redis_client):
    """The settings RLM gives its own server leave nothing to remark, on Valkey and on Redis."""
    assert bad(check_fitness(over(redis_client))) == {}
    require_fit(over(redis_client))


def test_a_volatile_server_may_be_allowed(own_client):
    """With `allow_volatile` a missing append-only file is a warning, and nothing else is let through."""
    own_client.config_set("appendonly", "no")

    require_fit(over(own_client), allow_volatile=True)

    assert bad(check_fitness(over(own_client), allow_volatile=True)) == {"persistence": Severity.WARNING}
    own_client.config_set("maxmemory", "100mb")
    own_client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(StoreUnfitError, match="allkeys-lru"):
        require_fit(over(own_client), allow_volatile=True)


def test_a_user_who_may_not_ask_for_settings_is_judged_by_what_is_left(own_client):
    """An ACL that forbids CONFIG does not hide an evicting server, and does not refuse a good one."""
    own_client.acl_setuser("rlm", enabled=True, nopass=True, commands=["+@all", "-config"], keys=["*"])
    with client_as(own_client, "rlm") as client:
        assert bad(check_fitness(over(client))) == {}

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
