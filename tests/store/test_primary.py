"""Which server is the primary, by the sentinels, and that nothing goes to another one."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest
import redis

from rlm.core.errors import StoreUnreachableError
from rlm.ledger.connect import make_client, translated
from tests.store.fakeservers import FakeRedis, FakeSentinel, running
from tests.wait import wait_until


def url_of(*sentinels):
    return f"redis+sentinel://{','.join(f'127.0.0.1:{one.port}' for one in sentinels)}/main"


def asked(client):
    with translated(client):
        return int(client.get("k"))


def test_on_a_switch_every_connection_to_the_server_before_is_shut():
    """Also one that waits for an answer, in any pool of this process; what comes next goes to the new primary."""
    with running(FakeRedis(), FakeRedis()) as (before, after), running(FakeSentinel(before.port)) as (sentinel,):
        clients = [make_client(url_of(sentinel)) for _ in range(2)]
        errors = []

        def block(client):
            try:
                client.blpop("k", 0)
            except redis.ConnectionError as error:
                errors.append(error)

        threads = [threading.Thread(target=block, args=(client,)) for client in clients]
        for one in threads:
            one.start()
        wait_until(lambda: before.heard.count("BLPOP") == 2, message="both wait")
        wait_until(lambda: sentinel.listening, message="the watch listens")

        sentinel.switch(after.port)
        for one in threads:
            one.join(10)

        assert len(errors) == 2
        assert [asked(client) for client in clients] == [after.port] * 2
        wait_until(lambda: not before.open, message="nobody is connected to the server before")


@pytest.mark.filterwarnings("ignore:unclosed .ssl.SSLSocket:ResourceWarning")  # Python 3.11 leaves it open
@pytest.mark.filterwarnings("ignore:Exception ignored in. .ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
def test_a_handshake_with_a_primary_that_stands_still_ends_with_the_switch():
    """It accepts, and answers nothing; whoever connects to it just then would wait for as long as for an answer."""
    with (
        socket.create_server(("127.0.0.1", 0)) as frozen,
        running(FakeSentinel(frozen.getsockname()[1])) as (sentinel,),
    ):
        url = url_of(sentinel).replace("redis+", "rediss+")
        client = make_client(f"{url}?sentinel_tls=no", socket_timeout=60.0)
        ended = []

        def connect():
            with suppress(redis.ConnectionError):
                client.ping()
            ended.append(True)

        lane = threading.Thread(target=connect)
        lane.start()
        with frozen.accept()[0] as peer:
            peer.recv(1)  # the first byte of its handshake
            wait_until(lambda: sentinel.listening, message="the watch listens")

            sentinel.switch(1)

            lane.join(10)
            assert ended


def test_nothing_goes_to_the_old_primary_once_another_is_about_to_take_its_place():
    """What it took in between would be lost: a fail-over that was asked for leaves it running."""
    with running(FakeRedis(), FakeRedis()) as (before, after), running(FakeSentinel(before.port)) as (sentinel,):
        client = make_client(url_of(sentinel))
        assert asked(client) == before.port
        wait_until(lambda: sentinel.listening, message="the watch listens")

        sentinel.begin(after.port)
        wait_until(lambda: not before.open, message="nobody is connected to it any more")
        with pytest.raises(StoreUnreachableError, match="about to replace it"):
            asked(client)
        sentinel.switch(after.port)

        wait_until(lambda: asked_quietly(client) == after.port, message="it goes to the new primary")


def test_a_switch_that_nobody_told_of_is_seen_within_seconds():
    """A message may be lost: the sentinels are asked as well."""
    with running(FakeRedis(), FakeRedis()) as (before, after), running(FakeSentinel(before.port)) as (sentinel,):
        client = make_client(url_of(sentinel))
        assert asked(client) == before.port

        sentinel.named, sentinel.epoch = after.port, 2

        wait_until(lambda: asked_quietly(client) == after.port, timeout=10, message="it goes to the new primary")


def asked_quietly(client):
    try:
        return asked(client)
    except StoreUnreachableError:
        return 0


def test_the_highest_epoch_says_which_one_is_the_primary():
    """Sentinels that were cut off with the old primary still name that one, however many they are."""
    with running(FakeRedis(), FakeRedis()) as (old, new):
        sentinels = [FakeSentinel(old.port), FakeSentinel(new.port, epoch=2), FakeSentinel(old.port)]
        with running(*sentinels):
            assert asked(make_client(url_of(*sentinels))) == new.port


def test_the_sentinel_that_leads_a_fail_over_does_not_outvote_those_that_have_heard_of_its_end():
    """It has the new epoch as soon as another is promoted, and the old address until all replicas follow that one."""
    with running(FakeRedis(), FakeRedis()) as servers:
        for old, new in (servers, servers[::-1]):  # whichever of their ports is the higher
            leads = FakeSentinel(old.port, epoch=2, flags="master,failover_in_progress")
            with running(leads, FakeSentinel(new.port, epoch=2), FakeSentinel(old.port)) as sentinels:
                assert asked(make_client(url_of(*sentinels))) == new.port


def test_a_replica_that_sentinels_take_for_the_primary_leads_to_its_own():
    """After a FAILOVER by hand sentinels name the old primary for half a minute."""
    with running(FakeRedis(), FakeRedis()) as (old, new), running(FakeSentinel(old.port)) as (sentinel,):
        client = make_client(url_of(sentinel))
        assert asked(client) == old.port

        old.of, old.refusal = new.port, b"-READONLY You can't write against a read only replica.\r\n"
        with pytest.raises(StoreUnreachableError, match="it is a replica"):
            asked(client)

        wait_until(lambda: asked_quietly(client) == new.port, message="it goes to the new primary")


def test_without_a_sentinel_nothing_is_sent_anywhere():
    """The message names the service, and what the last sentinel said."""
    with running(FakeSentinel(1)) as (sentinel,):
        url = url_of(sentinel)

    with pytest.raises(StoreUnreachableError, match=r"no sentinel names the primary of 'main'.*start the sentinels"):
        asked(make_client(url))
