from __future__ import annotations

import pytest

from rlm.core.errors import StoreForbiddenError, StoreUnfitError
from rlm.ledger.store import Store, judge
from rlm.settings import load_settings
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


@pytest.fixture(params=SERVERS)
def own(request, tmp_path):
    """A store on a server that only this test uses and may damage."""
    with running_server(request.param, tmp_path / "server") as url, Store(load_settings(None, {}), url) as made:
        yield made


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


def test_what_the_embedded_server_is_set_up_with_is_fit_and_may_be_volatile_on_demand(own):
    """And nothing else is let through, nor hidden by an ACL that forbids CONFIG."""
    own.require_fit()
    own.client.config_set("appendonly", "no")
    own.require_fit(allow_volatile=True)

    own.client.acl_setuser("rlm", enabled=True, nopass=True, commands=["+@all", "-config"], keys=["*"])
    with as_user(own) as user:
        user.require_fit(allow_volatile=True)

        own.client.config_set("maxmemory", "100mb")
        own.client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(StoreUnfitError, match="allkeys-lru"):
            user.require_fit(allow_volatile=True)


def test_a_user_who_may_not_ask_at_all_is_refused(own):
    """An ACL that forbids INFO leaves nothing to judge by, so the server is refused."""
    own.client.acl_setuser("rlm", enabled=True, nopass=True, commands=["+@all", "-info"], keys=["*"])

    with as_user(own) as user, pytest.raises(StoreForbiddenError, match="INFO"):
        user.require_fit()


def as_user(store):
    return Store(store.settings, f"{store.url}?username=rlm&password=any")
