"""The register of self-tests: leftovers are found and removed, and nothing else is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rlm.core.clock import system_clock
from rlm.core.endpoint import all_limited
from rlm.ledger import Store
from rlm.ledger.connect import make_client
from rlm.ledger.keys import Keys
from rlm.ledger.processes import Process, Role
from rlm.ledger.selftests import LEFT_SECONDS, SelfTest, SelfTests
from rlm.settings import settings_under
from tests.acceptance.redisusers import documented_users, make_user, url_of
from tests.conftest import running_server
from tests.store import steps


@pytest.fixture(scope="module")
def server_url(tmp_path_factory):
    with running_server("valkey", tmp_path_factory.mktemp("selftests")) as url:
        with make_client(url) as admin:
            make_user(admin, "rlm", documented_users()["rlm"])
        yield url


@pytest.fixture(params=["scan", "names"])
def worked(request, server_url, tmp_path, monkeypatch):
    """A self-test with leftovers of every kind; for a user who may SCAN, and for the documented one."""
    from rlm.settings import load_settings

    monkeypatch.chdir(tmp_path)
    settings = load_settings(None, {})
    url = server_url if request.param == "scan" else url_of(server_url, "rlm")
    with make_client(server_url) as admin, make_client(url) as client:
        admin.flushall()
        tests = SelfTests(SimpleNamespace(client=client, keys=Keys(settings), settings=settings))
        prefix = tests.new_prefix()
        store = Store(settings_under(settings, prefix), url)
        endpoint = store.settings.endpoints[steps.ENDPOINT]
        windows = [one.window_id for one in all_limited(store.settings.endpoints.values())]  # as `rlm test` does
        token = store.leases.acquire(steps.CONDUCTOR, 60)
        store.epochs.vouch(token)
        store.publish_limits(token)
        steps.push(store, *steps.items(3, steps.TYPE))
        run = steps.start_run(store, token)
        store.processes.announce(Role.WORKER, Process("worker-1", 1, "h", 0.0))
        steps.claim_next(store, token, run)
        store.breaker.rest(endpoint, 1.0)
        store.ways.open(endpoint, "h")
        steps.push(store, b"waits")
        store.close()
        test = SelfTest(system_clock.now(), "h", [steps.TYPE], windows, steps.event_ids(3))
        tests.begin(prefix, test)
        yield tests, prefix, test, admin, Keys(settings)


def test_all_keys_of_a_self_test_are_removed_and_no_others(worked):
    """Those of the installation stay, and those of another self-test; a second time there is nothing to do."""
    tests, prefix, test, admin, own = worked
    others = {own.lease, own.events, f"{tests.base}-other:lease", f"{tests.base}-other_events", f"x{prefix}:lease"}
    others |= {f"{prefix}x:lease"}
    for key in others:
        admin.set(key, "not ours")

    assert tests.sweep(prefix, test) > 10

    assert {key.decode() for key in admin.keys("*")} == others | {f"{tests.base}-running"}
    assert tests.remaining(prefix, test) == 0
    assert tests.sweep(prefix, test) == 0
    tests.end(prefix)
    assert {key.decode() for key in admin.keys("*")} == others


def test_what_began_long_ago_is_left(worked):
    """A younger one may be at work, and what is no entry of ours is none."""
    tests, prefix, test, admin, _ = worked
    admin.hset(
        f"{tests.base}-running",
        mapping={
            "rlm": b'{"started_at": 1.0, "host": "h"}',
            f"{tests.base}-0123456789": "no JSON",
            f"{tests.base}-1123456789": b'{"started_at": -1e300, "host": "h"}',
            b"\xff": b'{"started_at": 1.0, "host": "h"}',
        },
    )

    assert tests.left(test.started_at + LEFT_SECONDS - 1) == {}
    assert tests.left(test.started_at + LEFT_SECONDS + 1) == {prefix: test}


@pytest.mark.parametrize("prefix", ["rlm", "rlm-test", "rlm-test-", "", "*", "rlm-test-*", "other-0123456789"])
def test_nothing_but_a_self_test_can_be_swept(worked, prefix):
    """Whatever the register says: it is text that others could write."""
    tests, _, test, admin, _ = worked
    before = admin.dbsize()

    with pytest.raises(ValueError, match="is not the prefix of a self-test"):
        tests.sweep(prefix, test)

    assert admin.dbsize() == before
