"""One HTTP call over real sockets: whatever the server does, one outcome by the deadline, no extra connection."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest

from rlm.core.call import CallEnd
from rlm.delivery.attempt import Outcome
from rlm.delivery.http import Connections, UnreachableError
from tests.acceptance.scripted import OK, PATIENCE, Peer, Server, answering, call, endpoint, exchange, once, request
from tests.stopwatch import Stopwatch
from tests.wait import wait_until

#: How late an outcome may come after its deadline, seconds.
LATE = 0.2


@pytest.fixture
def connections():
    connections = Connections()
    yield connections
    connections.close()


@contextmanager
def ends_by(seconds):
    """The block must end within `LATE` after `seconds`, and not earlier."""
    took = Stopwatch()
    yield
    in_time = took.busy <= seconds + LATE

    assert took.seconds >= seconds - 0.01
    assert in_time, f"took {took.seconds:.3f} s, where {seconds} s were given"


@pytest.mark.parametrize(
    ("date", "seconds"), [("Date: Wed, 21 Oct 2015 07:28:00 GMT\r\n", 30.0), ("Date: soon\r\n", 0.0), ("", 0.0)]
)
def test_a_rest_until_a_date_is_reckoned_by_the_clock_of_the_server(connections, date, seconds):
    """Its own `Date` says how far away that is, whatever this host takes the time to be; only without one it counts."""
    head = f"HTTP/1.1 429 X\r\n{date}Retry-After: Wed, 21 Oct 2015 07:28:30 GMT\r\nContent-Length: 0\r\n\r\n"
    with Server(answering(head.encode())) as server:
        assert call(connections, endpoint(server.url)).rest_seconds == seconds


def test_a_connection_that_the_server_closed_meanwhile_is_replaced(connections):
    """An idle connection that the server gave up costs nothing: the next call goes over a new one."""
    with Server(once(lambda peer: peer.send(OK))) as server:
        target = endpoint(server.url)
        first = call(connections, target)
        wait_until(lambda: server.open == 0, message="the server has closed it")

        second = call(connections, target)

        assert [first.text, second.text] == ["HTTP 200"] * 2
        assert (server.connections, len(server.requests)) == (2, 2)


@pytest.mark.parametrize("status", [200, 429, 500])
def test_a_body_that_trickles_is_cut_at_the_deadline(connections, status):
    """A byte each 0.1 s never lets a socket time out; the deadline is that of the whole call."""
    head = f"HTTP/1.1 {status} X\r\nContent-Length: 1000\r\n\r\n".encode()

    def act(peer):
        peer.send(head)
        peer.trickle(b"x")

    with Server(once(act)) as server:
        with ends_by(0.6):
            outcome = call(connections, endpoint(server.url), seconds=0.6)

        assert outcome.text.startswith("no answer within 0.")
        wait_until(lambda: server.open == 0, message="the connection is closed")


def test_a_server_that_never_answers_is_left_at_the_deadline(connections):
    """Silence is cut at the deadline, and the server sees the connection close then."""
    with Server(once(Peer.until_closed)) as server:
        with ends_by(0.3):
            outcome = call(connections, endpoint(server.url), seconds=0.3)

        assert outcome == Outcome("no answer within 0.3 s", "no answer in time")
        wait_until(lambda: server.open == 0, message="the server saw it close")


def test_a_server_that_does_not_read_is_left_at_the_deadline(connections):
    """A body too large for the buffers between here and there does not hold a lane beyond the deadline."""
    done = threading.Event()
    with Server(lambda peer: done.wait(PATIENCE)) as server:
        big = request(item=b'{"x":"' + b"y" * 50_000_000 + b'"}')
        with ends_by(0.4):
            outcome = call(connections, endpoint(server.url), big, seconds=0.4)
        done.set()

        assert outcome.kind == "no answer in time"


def test_a_deadline_that_is_over_before_the_call_sends_nothing(connections):
    """Neither is a connection opened for it."""
    with Server(once(Peer.until_closed)) as server:
        target = endpoint(server.url)
        connection = connections.connect(target.url, PATIENCE)

        trouble = exchange(connections, connection, target, time.monotonic())
        with pytest.raises(UnreachableError, match="timed out"):
            connections.connect(target.url, 0.0)

        assert trouble == Outcome("the request could not be sent completely: timed out", "no answer in time")
        wait_until(lambda: server.connections == 1 and server.open == 0, message="the server saw it close")
        assert server.requests == []


def test_a_name_that_does_not_resolve_is_known_before_anything_is_sent(connections):
    """A host without an address cannot be connected to, which is an error of connecting."""
    with pytest.raises(UnreachableError, match="no connection to "):
        connections.connect("http://no-such-host.invalid/", PATIENCE)


def resolve(monkeypatch, *ports):
    """Let any name resolve to these ports of this machine, in this order."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port)) for port in ports]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found)


@contextmanager
def crowded():
    """A port of this machine that accepts no more connections: TCP keeps trying."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # fill the queue of those that wait to be let in
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.mark.parametrize("addresses", [1, 3])
def test_a_server_that_accepts_nobody_is_given_up_in_time(connections, monkeypatch, addresses):
    """A connection that does not come about ends in the time given for it, however many addresses its host has."""
    with crowded() as port:
        resolve(monkeypatch, *[port] * addresses)
        with ends_by(0.3), pytest.raises(UnreachableError, match="timed out"):
            connections.connect("http://api.test/", 0.3)


def test_proxies_of_the_environment_are_ignored(connections, monkeypatch):
    """What the machine uses for browsing sees no event."""
    with Server(answering(OK)) as proxy, Server(answering(OK)) as server:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "")

        outcome = call(connections, endpoint(server.url))

        assert (outcome.text, server.connections, proxy.connections) == ("HTTP 200", 1, 0)


@pytest.mark.parametrize(
    "item",
    [
        b'{"id":"i","wallet_name":"w","events":["T"],"amount":1.0e2}',
        b'{ "id" : "i",\n\t"wallet_name":"\\u0077\\ud83d\\ude00","events":["T"], "x":[1 ,2] }',
        b'{"id":"i","wallet_name":"w","events":["T"],"n":123456789012345678901234567890,"f":0.1000,"z":-0.0}',
        b'{"id":"i","id":"i","wallet_name":"w","events":["T"],"a":1,"a":2}',
        '{"id":"i","wallet_name":"кошелёк €","events":["T"],"s":"\\/"}'.encode(),
        b'{"id":"i","wallet_name":"w","events":["T"],"deep":' + b"[" * 98 + b"]" * 98 + b"}",
    ],
    ids=["float", "escapes", "numbers", "duplicate", "utf8", "deep"],
)
def test_the_item_is_passed_on_byte_for_byte(connections, item):
    """The body has the contract's six keys, and in it the item exactly as it came."""
    with Server(answering(OK)) as server:
        wanted = request(item=item, event_id="i:T", wallet_name="w€", run_id="run-1", attempt=6)
        call(connections, endpoint(server.url), wanted)

        _head, body = server.requests[0]
        assert body.count(item) == 1
        assert json.loads(body.replace(item, b"0")) == {
            "event_id": "i:T",
            "event_type": "T",
            "wallet_name": "w€",
            "run_id": "run-1",
            "attempt": 7,
            "item": 0,
        }


@pytest.mark.parametrize(
    ("content_type", "kind"), [("text/html", "web page"), ("Text/HTML; charset=utf-8", "web page"), ("text/plain", "")]
)
def test_any_2xx_is_delivered_and_one_that_is_a_web_page_is_counted(connections, content_type, kind):
    """It may be a login page; who answers so and means it says so by `success`."""
    answer = f"HTTP/1.1 202 X\r\nRetry-After: 5\r\nContent-Type: {content_type}\r\nContent-Length: 0\r\n\r\n"
    with Server(answering(answer.encode())) as server:
        outcome = call(connections, endpoint(server.url))

        assert (outcome.finish, outcome.text[:8], outcome.kind) == (CallEnd.COMPLETED, "HTTP 202", kind)


def test_what_the_answer_says_is_safe_to_show(connections):
    """The excerpt of a rejection is printable ASCII and short, whatever the server wrote."""
    body = b"\x1b]0;title\x07no \xff\xfe such\r\nwallet" + b"!" * 1000
    answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with Server(answering(answer)) as server:
        outcome = call(connections, endpoint(server.url))

        assert re.match(r"HTTP 404: \]0;title no +such wallet!!!", outcome.text)
        assert outcome.text.isprintable()
        assert len(outcome.text) <= 210


def test_a_secret_is_sent_and_nowhere_shown(monkeypatch, caplog):
    """A header's value from the environment reaches the server, and no log line, representation or outcome."""
    secret = "s3cr3t-0f-the-house"
    monkeypatch.setenv("API_TOKEN", secret)
    caplog.set_level(logging.DEBUG)
    connections = Connections()
    with Server(once(Peer.reset)) as server:
        target = endpoint(server.url, {"Authorization": "env:API_TOKEN"})

        outcome = call(connections, target)

        assert f"Authorization: {secret}" in server.requests[0][0].split("\r\n")
        shown = [repr(connections), repr(target), repr(outcome), repr(vars(connections)), caplog.text]
        assert not [text for text in shown if secret in text]
    connections.close()


def test_a_secret_that_cannot_be_sent_is_not_quoted(monkeypatch, connections):
    """A value that no header can have, changed after the start, fails the call without being told to anybody."""
    monkeypatch.setenv("API_TOKEN", "s3cr3t\nSmuggled: yes")
    with Server(answering(OK)) as server:
        target = endpoint(server.url, {"Authorization": "env:API_TOKEN"})
        trouble = call(connections, target)

        assert trouble.kind == "not what HTTP allows"
        assert "s3cr3t" not in trouble.text
        connections.close()
        wait_until(lambda: server.connections == 1 and server.open == 0, message="the server has read to the end")
        assert server.requests == []
