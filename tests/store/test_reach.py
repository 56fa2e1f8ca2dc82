"""Whether endpoints can be reached: one connection per address, no call; addresses without time are reported."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from rlm.admin.doctor import host
from rlm.core.endpoint import Endpoint, Limit
from rlm.ledger.fitness import Severity


def settings(**urls):
    endpoints = {name: Endpoint(name, url, Limit.parse("9/minute"), 1.0) for name, url in urls.items()}
    return SimpleNamespace(endpoints=endpoints)


@pytest.fixture
def listening():
    """A listening port of loopback that counts connections."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(10)
        yield server


@pytest.fixture
def closed():
    """A port of loopback on which nobody listens or will listen."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_an_address_is_connected_to_once_and_sent_nothing(listening):
    """However many endpoints are there."""
    port = listening.getsockname()[1]

    (found,) = host.check_reach(settings(a=f"http://127.0.0.1:{port}/a", b=f"http://127.0.0.1:{port}/b"))

    assert found.ok
    peer, _ = listening.accept()
    with peer:
        assert peer.recv(1) == b""
    listening.settimeout(0)
    with pytest.raises(BlockingIOError):
        listening.accept()


def test_an_address_that_refuses_is_a_warning_with_its_endpoints(closed):
    """And says nothing else of a URL than host and port."""
    urls = {name: f"http://me:s3cret@127.0.0.1:{closed}/{name}?key=s3cret" for name in "abcd"}

    (found,) = host.check_reach(settings(**urls))

    assert (found.ok, found.severity) == (False, Severity.WARNING)
    assert found.message == f"127.0.0.1:{closed}: connection refused (a, b, c and 1 more)"


def test_one_that_speaks_no_tls_is_found_by_the_handshake(listening, monkeypatch):
    """A connection alone is not enough; one that says nothing costs its time and no more."""
    monkeypatch.setattr(host, "EACH_SECONDS", 0.2)
    port = listening.getsockname()[1]

    (found,) = host.check_reach(settings(a=f"https://127.0.0.1:{port}/a"))

    assert found.message == f"127.0.0.1:{port}: no answer in time (a)"


def test_of_very_many_the_first_are_told_and_none_waited_for_beyond_the_time(closed, monkeypatch):
    """What was not tried is counted."""
    urls = {f"e{number}": f"http://127.0.0.{number}:{closed}/" for number in range(1, 9)}

    told = list(host.check_reach(settings(**urls)))
    monkeypatch.setattr(host, "ALL_SECONDS", 0.0)
    (untried,) = host.check_reach(settings(**urls))

    assert [one.message for one in told][-1] == "and 3 more such addresses"
    assert len(told) == host.MOST_FINDINGS + 1
    assert untried.message == "8 of 8 addresses: there was no time to try"
