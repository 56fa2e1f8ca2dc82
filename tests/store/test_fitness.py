from __future__ import annotations

from contextlib import closing
from types import SimpleNamespace

import pytest
import redis

from rlm.core.errors import StoreUnfitError, StoreUnreachableError
from rlm.ledger import Store, fitness
from rlm.ledger.connect import make_client
from rlm.ledger.embedded import EmbeddedServer
from rlm.ledger.fitness import Severity, check_fitness, judge, require_fit, unfit
from rlm.ledger.processes import Process, Role
from tests.conftest import SERVERS, running_server
from tests.each import each
from tests.store.test_connect import free_port
from tests.wait import wait_until

pytestmark = pytest.mark.both_servers

#: What a fit server says of itself, as far as it is looked at.
INFO = {
    "redis_version": "7.2.4",
    "loading": 0,
    "role": "master",
    "connected_slaves": 0,
    "cluster_enabled": 0,
    "maxmemory": 0,
    "maxmemory_policy": "noeviction",
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "aof_last_bgrewrite_status": "ok",
    "rdb_last_bgsave_status": "ok",
}
SETTINGS = {
    "appendfsync": "always",
    "save": "",
    "stop-writes-on-bgsave-error": "yes",
    "min-replicas-to-write": "0",
    "min-replicas-max-lag": "10",
}


def over(client):
    """A store of which only its client matters."""
    return SimpleNamespace(client=client, require_schema=lambda **_: None)


@pytest.fixture(params=SERVERS)
def own_client(request, tmp_path):
    """A client of a server that only this test uses and may damage."""
    with running_server(request.param, tmp_path / "server") as url, make_client(url) as client:
        yield client


def bad(fitness):
    return {found.name: found.severity for found in fitness.findings if not found.ok}


@each(
    ("info", "settings", "expected"),
    [
        ({}, {}, {}),
        ({"redis_version": "6.2.0"}, {}, {}),
        ({"redis_version": "6.0.16"}, {}, {"version": Severity.ERROR}),
        ({"redis_version": "5.0.14", "valkey_version": "0.1"}, {}, {"version": Severity.ERROR}),
        ({"redis_version": "255.255.255-rc1"}, {}, {}),
        ({"loading": 1}, {}, {"loading": Severity.ERROR}),
        ({"role": "slave"}, {}, {"role": Severity.ERROR}),
        ({"cluster_enabled": 1}, {}, {"cluster": Severity.ERROR}),
        ({"connected_slaves": 1}, {}, {"replicas": Severity.WARNING}),
        ({"connected_slaves": 1}, {"min-replicas-to-write": "1"}, {}),
        ({"connected_slaves": 2, "min_slaves_good_slaves": 1}, {"min-replicas-to-write": "1"}, {}),
        ({"min_slaves_good_slaves": 1}, {"min-replicas-to-write": "2"}, {"replicas": Severity.ERROR}),
        (
            {"connected_slaves": 2},
            {"min-replicas-to-write": "1", "min-replicas-max-lag": "0"},
            {"replicas": Severity.WARNING},
        ),
        ({"maxmemory": 1000}, {}, {}),
        ({"maxmemory": 1000, "used_memory": 900}, {}, {}),
        ({"maxmemory": 1000, "used_memory": 901}, {}, {"memory": Severity.WARNING}),
        ({"maxmemory": 1000, "used_memory": 1001}, {}, {"memory": Severity.ERROR}),
        ({"maxmemory": 1000, "used_memory": 1001, "mem_not_counted_for_evict": 1}, {}, {"memory": Severity.WARNING}),
        ({"maxmemory": 0, "used_memory": 901}, {}, {}),
        ({"maxmemory_policy": "allkeys-lru"}, {}, {"eviction": Severity.WARNING}),
        ({"maxmemory": 1000, "maxmemory_policy": "volatile-ttl"}, {}, {"eviction": Severity.ERROR}),
        ({"aof_enabled": 0}, {}, {"persistence": Severity.ERROR}),
        ({}, {"appendfsync": "everysec"}, {"sync": Severity.WARNING}),
        ({"aof_enabled": 0}, {"appendfsync": "everysec"}, {"persistence": Severity.ERROR}),
        ({"aof_last_write_status": "err"}, {}, {"appending": Severity.ERROR}),
        ({"aof_last_bgrewrite_status": "err"}, {}, {"rewriting": Severity.WARNING}),
        ({"rdb_last_bgsave_status": "err"}, {}, {"snapshots": Severity.WARNING}),
        ({"rdb_last_bgsave_status": "err"}, {"save": "3600 1"}, {"snapshots": Severity.ERROR}),
        (
            {"rdb_last_bgsave_status": "err"},
            {"save": "3600 1", "stop-writes-on-bgsave-error": "no"},
            {"snapshots": Severity.WARNING},
        ),
    ],
)
def test_each_fault_is_found_alone(info, settings, expected):
    """One thing that is wrong is one finding, an error where events could be lost or refused, else a warning."""
    fitness = judge(INFO | info, SETTINGS | settings)

    assert bad(fitness) == expected
    assert (fitness.errors == ()) == (Severity.ERROR not in expected.values())
    assert all(found.remedy for found in fitness.findings if not found.ok)


def test_what_may_not_be_asked_is_taken_for_the_worse():
    """Where CONFIG is forbidden, a failed snapshot is an error, the sync policy and a replica a warning."""
    assert bad(judge(INFO | {"rdb_last_bgsave_status": "err", "connected_slaves": 1}, {})) == {
        "snapshots": Severity.ERROR,
        "sync": Severity.WARNING,
        "replicas": Severity.WARNING,
    }
    assert bad(judge(INFO | {"connected_slaves": 1, "min_slaves_good_slaves": 1}, {}))["replicas"] is Severity.WARNING
    assert bad(judge(INFO | {"min_slaves_good_slaves": 0}, {}))["replicas"] is Severity.ERROR


def test_what_sentinel_names_may_be_replaced_although_no_replica_shows():
    """Found by Sentinel, a primary whose replica is away just now is judged as one with replicas."""
    alone = judge(INFO, SETTINGS, sentinel=True)
    fenced = judge(INFO, SETTINGS | {"min-replicas-to-write": "1"}, sentinel=True)

    assert bad(alone) == {"replicas": Severity.WARNING}
    assert "min-replicas-to-write to 1" in alone.warnings[0].remedy
    assert bad(fenced) == {}


def test_the_remedy_for_a_primary_with_a_replica_keeps_it_from_writing_once_it_is_cut_off(tmp_path):
    """A real pair: warned of as it comes, at rest with the remedy, and then the primary alone takes no write."""
    port = free_port()
    with (
        EmbeddedServer(tmp_path / "primary", port) as primary,
        running_server("valkey", tmp_path / "replica") as replica_url,
        make_client(primary.url) as client,
        make_client(replica_url) as replica,
    ):
        client.config_set("repl-diskless-sync-delay", "0")
        replica.replicaof("127.0.0.1", str(port))
        wait_until(lambda: replica.info("replication")["master_link_status"] == "up", message="it replicates")
        before = bad(check_fitness(over(client)))
        client.config_set("min-replicas-to-write", "1")
        after = bad(check_fitness(over(client)))
        client.set("k", "v")
        replica.replicaof("NO", "ONE")
        wait_until(lambda: not client.info("replication")["connected_slaves"], message="it is cut off")

        assert before == {"replicas": Severity.WARNING}
        assert after == {}
        assert bad(check_fitness(over(client))) == {"replicas": Severity.ERROR}
        with pytest.raises(redis.ResponseError, match="NOREPLICAS"):
            client.set("k", "w")


def test_memory_only_is_told_apart_from_snapshots():
    """A server that keeps nothing says so; one with snapshots says what a crash would cost."""
    nothing = judge(INFO | {"aof_enabled": 0}, SETTINGS).errors[0].message
    snapshots = judge(INFO | {"aof_enabled": 0}, SETTINGS | {"save": "3600 1"}).errors[0].message

    assert "a restart loses everything" in nothing
    assert "a crash loses what came after the last" in snapshots


def test_a_server_set_up_like_the_embedded_one_is_fit_without_a_warning(redis_client):
    """The settings RLM gives its own server leave nothing to remark, on Valkey and on Redis."""
    fitness = check_fitness(over(redis_client))

    assert fitness.errors == ()
    assert bad(fitness) == {}
    require_fit(over(redis_client))


def test_everything_that_is_wrong_is_told_at_once_with_its_remedy(own_client):
    """A server that evicts and keeps no file is refused with both reasons and both remedies."""
    own_client.config_set("maxmemory", "100mb")
    own_client.config_set("maxmemory-policy", "allkeys-lru")
    own_client.config_set("appendonly", "no")

    with pytest.raises(StoreUnfitError) as raised:
        require_fit(over(own_client))

    evicts, keeps_nothing = str(raised.value).split("; ")
    assert "allkeys-lru" in evicts
    assert "set maxmemory-policy to noeviction" in evicts
    assert "appendonly is no" in keeps_nothing
    assert "--allow-volatile" in keeps_nothing
    assert "\n" not in str(raised.value), "it is one line of a log"


def test_a_full_memory_is_refused(own_client):
    """As Redis refuses every write until there is room."""
    own_client.config_set("maxmemory", 1)

    with pytest.raises(redis.exceptions.OutOfMemoryError):
        own_client.set("k", "v")
    with pytest.raises(StoreUnfitError, match=r"memory is full.*raise maxmemory"):
        require_fit(over(own_client))


def test_why_it_is_unfit_goes_by_what_a_scheduler_insists_on(settings, tmp_path):
    """By what every view tells: a missing file counts if a scheduler insists on one, eviction always."""
    with running_server("valkey", tmp_path / "server") as url, closing(Store(settings, url)) as store:
        store.client.config_set("appendonly", "no")
        assert unfit(store) == ""
        scheduler = Process(id="here:1", pid=1, host="here", started_at=0.0, insists_on_file=True)
        store.processes.announce(Role.SCHEDULER, scheduler)
        assert "set appendonly to yes" in unfit(store)
        store.processes.forget(Role.SCHEDULER, scheduler.id)
        store.client.config_set("maxmemory", "100mb")
        store.client.config_set("maxmemory-policy", "allkeys-lru")
        assert "set maxmemory-policy to noeviction" in unfit(store)


def test_the_scheduler_that_leads_decides_whether_a_file_is_insisted_on(settings, tmp_path):
    """A standby that insists on one stops nobody; where none leads, either may be the next."""
    with running_server("valkey", tmp_path / "server") as url, closing(Store(settings, url)) as store:
        store.client.config_set("appendonly", "no")
        for name, insists in (("volatile", False), ("strict", True)):
            store.processes.announce(Role.SCHEDULER, Process(name, 1, "here", 0.0, insists_on_file=insists))
        assert "set appendonly to yes" in unfit(store)

        store.leases.acquire("volatile", 20.0)
        assert unfit(store) == ""

        store.leases.release("volatile")
        store.leases.acquire("strict", 20.0)
        assert "set appendonly to yes" in unfit(store)


def test_a_volatile_server_may_be_allowed(own_client):
    """With `allow_volatile` a missing append-only file is a warning, and nothing else is let through."""
    own_client.config_set("appendonly", "no")

    require_fit(over(own_client), allow_volatile=True)

    assert bad(check_fitness(over(own_client), allow_volatile=True)) == {"persistence": Severity.WARNING}
    own_client.config_set("maxmemory", "100mb")
    own_client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(StoreUnfitError, match="allkeys-lru"):
        require_fit(over(own_client), allow_volatile=True)


def test_a_replica_is_refused(own_client):
    """A server that follows another one takes no writes, so it is unfit."""
    own_client.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(StoreUnfitError, match="it is a replica"):
            require_fit(over(own_client))
    finally:
        own_client.replicaof("NO", "ONE")


def test_failing_snapshots_are_refused(own_client, tmp_path):
    """Where a snapshot failed and save points stand, Redis refuses writes, and the finding says so."""
    own_client.config_set("save", "3600 1000000")
    (tmp_path / "server" / "dump.rdb" / "in the way").mkdir(parents=True)

    own_client.bgsave()
    wait_until(
        lambda: own_client.info("persistence")["rdb_last_bgsave_status"] == "err", message="the snapshot has failed"
    )

    assert bad(check_fitness(over(own_client))) == {"snapshots": Severity.ERROR}
    own_client.config_set("save", "")  # with a save point it would not stop without a snapshot


def test_settings_are_asked_for_at_once_and_one_by_one_of_a_redis_that_is_older(own_client):
    """Both ways they are the same; a scheduler that idles asks every few seconds."""
    told = []
    for version, calls in (((7, 0), 1), ((6, 2, 20), len(fitness.SETTINGS))):
        own_client.config_resetstat()
        told.append(fitness._settings(own_client, version))
        assert own_client.info("commandstats")["cmdstat_config|get"]["calls"] == calls

    assert told[0] == told[1]
    assert told[0].keys() == set(fitness.SETTINGS)
    assert all(told[0][name] for name in fitness.SETTINGS if name != "save")


def test_a_user_who_may_not_ask_for_settings_is_judged_by_what_is_left(own_client):
    """An ACL that forbids CONFIG does not hide an evicting server, and does not refuse a good one."""
    own_client.acl_setuser("rlm", enabled=True, nopass=True, commands=["+@all", "-config"], keys=["*"])
    with client_as(own_client, "rlm") as client:
        assert bad(check_fitness(over(client))) == {"sync": Severity.WARNING}

        own_client.config_set("maxmemory", "100mb")
        own_client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(StoreUnfitError, match="allkeys-lru"):
            require_fit(over(client))


def test_a_user_who_may_not_ask_at_all_is_refused(own_client):
    """An ACL that forbids INFO leaves nothing to judge by, so the server is refused with what to allow."""
    own_client.acl_setuser("rlm", enabled=True, nopass=True, commands=["+@all", "-info"], keys=["*"])

    with client_as(own_client, "rlm") as client, pytest.raises(StoreUnfitError, match=r"\+info"):
        require_fit(over(client))


def client_as(client, user):
    path = client.connection_pool.connection_kwargs["path"]
    return make_client(f"unix://{path}?username={user}&password=any")


def test_a_server_that_is_away_is_unreachable_and_not_unfit(tmp_path):
    """Where nothing answers, nothing is judged."""
    with make_client(f"unix://{tmp_path}/none.sock") as client, pytest.raises(StoreUnreachableError):
        check_fitness(over(client))
