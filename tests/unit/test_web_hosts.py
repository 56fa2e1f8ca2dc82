"""Which hosts a request may name: a foreign page must not be able to read what is served here."""

from __future__ import annotations

import asyncio

import pytest
from starlette.applications import Starlette

from rlm.settings import load_settings
from rlm.web.access import Access
from tests.each import each


def ask(*said, listed=(), server=("127.0.0.1", 8088)):
    """Return the status of a request with these `Host` headers; 404 is the application's, which serves nothing."""
    sent = []

    async def send(message):
        sent.append(message)

    headers = [(b"host", name.encode("latin-1")) for name in said]
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": headers, "server": server}
    app = Starlette(middleware=Access("", listed).middleware)
    asyncio.run(app(scope, None, send))
    return sent[0]["status"]


@each(
    "host", ["localhost", "LocalHost:8088", "127.0.0.1:8088", "127.9.8.7", "[::1]", "[0:0::1]:80", "[::ffff:127.0.0.1]"]
)
def test_this_host_is_always_allowed(host):
    """By any of its loopback names, with any port."""
    assert ask(host) == 404


@each(
    "host",
    [
        *("evil.example", "evil.example:8088", "localhost.evil.example", "127.0.0.1.evil.example", "localhost."),
        *("127.1", "2130706433", "0.0.0.0", "10.0.0.5", "[2001:db8::1]", "[::]", "127.0.0.256"),
    ],
)
def test_others_are_not(host):
    """Also those that only look like this host."""
    assert ask(host) == 421


@each(
    "said",
    [
        *((), ("",), ("localhost", "localhost"), ("localhost,evil",), ("a b",), ("user@localhost",), ("[::1",)),
        *(("localhost/",), ("localhost?",), ("localhost#",), ("localhost:x",), ("[localhost]",)),
    ],
)
def test_one_host_must_be_named(said):
    """None, two, or what is no host."""
    assert ask(*said) == 421


def test_those_of_web_hosts_are_allowed(tmp_path):
    """From the file, or a variable; in any case and spelling."""
    file = tmp_path / "rlm.toml"
    file.write_text('[web]\nhosts = ["RLM.example.com", "[2001:DB8:0::1]", "10.0.0.5"]\n')
    for hosts in (
        load_settings(file, {}).web.hosts,
        load_settings(file, {"RLM_WEB__HOSTS": "rlm.example.com, 2001:db8::1,10.0.0.5"}).web.hosts,
    ):
        allowed = ["rlm.example.com:8088", "Rlm.Example.COM", "[2001:db8::1]:80", "10.0.0.5"]
        assert [ask(host, listed=hosts) for host in allowed] == [404] * 4
        assert ask("www.rlm.example.com", listed=hosts) == 421


@pytest.mark.parametrize("server", [("10.0.0.5", 8088), ("::ffff:10.0.0.5", 8088)])
def test_the_address_at_which_the_request_arrived_is_allowed(server):
    """It is no name that could be made to lead here: a probe or Prometheus needs no setting."""
    assert ask("10.0.0.5:8088", server=server) == 404
    assert ask("10.0.0.6", server=server) == 421
