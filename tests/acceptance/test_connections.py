"""The connections for calls: which are kept, for how long, and which never; names, TLS, races at their end."""

from __future__ import annotations

import socket
import ssl
import threading
import time

import pytest

from rlm.delivery import http
from rlm.delivery.http import Connections, UnreachableError
from tests.acceptance.scripted import OK, PATIENCE, Peer, Server, answering, call, endpoint, exchange, request
from tests.acceptance.tlsserver import make_ca, make_certificate, program
from tests.stopwatch import Stopwatch
from tests.wait import wait_until

REFUSED = b"HTTP/1.1 422 No\r\nContent-Length: 2\r\n\r\nno"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


@pytest.fixture
def connections():
    connections = Connections()
    yield connections
    connections.close()


def test_what_comes_with_an_answer_costs_its_connection(connections):
    """It is nobody's answer."""
    with Server(answering(OK + REFUSED)) as server:
        outcomes = [call(connections, endpoint(server.url), request(number)) for number in range(3)]

        assert [outcome.text for outcome in outcomes] == ["HTTP 200"] * 3
        assert server.connections == 3


def test_of_many_kept_connections_those_used_last_stay(connections, monkeypatch):
    """A worker with thousands of endpoints does not run out of descriptors."""
    monkeypatch.setattr(http, "MOST_KEPT", 2)
    with Server(answering(OK)) as server:
        first, second, third = (endpoint(f"{server.url}/{name}", name=name) for name in ("1", "2", "3"))
        for target in (first, second, third, second):
            call(connections, target)
        assert server.connections == 3
        wait_until(lambda: server.open == 2, message="the one used longest ago is closed")

        call(connections, first)
        assert server.connections == 4


def test_what_is_said_before_the_request_is_no_answer_to_it(connections):
    """An answer that was there first is refused before anything is sent, on a new connection and on a kept one."""

    def script(peer):
        peer.send(OK)
        peer.until_closed()

    with Server(script) as server:
        target = endpoint(server.url)
        opened = connections.connect(target.url, PATIENCE)
        wait_until(lambda: not opened.is_usable(), message="the answer is there")

        trouble = exchange(connections, opened, target, time.monotonic() + PATIENCE)

        assert trouble.text == (
            "the request could not be sent completely: the endpoint closed the connection, or sent data unasked"
        )
        wait_until(lambda: server.open == 0, message="the connection is closed")
        assert server.requests == []


def test_an_answer_before_the_whole_request_is_none(connections):
    """A server that refuses half a request and hangs up leaves a call that was not sent whole."""

    def script(peer):
        peer.sock.recv(1000)
        peer.send(REFUSED)
        peer.reset()

    with Server(script) as server:
        target = endpoint(server.url)
        big = request(item=b'{"x":"' + b"y" * 20_000_000 + b'"}')

        outcome = call(connections, target, big)

        assert outcome.text.startswith("the request could not be sent completely: ")


def test_a_connection_is_given_up_with_its_age(connections, monkeypatch):
    """However busy it is, it is not used for longer: so a host that moved is followed."""
    monkeypatch.setattr(http, "MAX_AGE_SECONDS", 0.2)
    with Server(answering(OK)) as old, Server(answering(OK)) as new:
        where = [old.port]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: [_found(where[0])])
        target = endpoint("http://api.test/")
        call(connections, target)
        where[0] = new.port
        until = time.monotonic() + 0.4
        while time.monotonic() < until:
            assert call(connections, target).text == "HTTP 200"

        assert old.connections == 1
        assert len(old.requests) > 1
        assert len(new.requests) > 1
        assert new.connections <= 2


def _found(port):
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port)


def test_a_resolver_that_hangs_holds_no_call(connections, monkeypatch):
    """Each call waits its own time for the name, and once it answers calls go on."""
    answers, asked = threading.Event(), []
    with Server(answering(OK)) as server:

        def hang(*_args, flags=0, **_options):
            if flags & socket.AI_NUMERICHOST:
                raise socket.gaierror("it is a name")
            asked.append(threading.current_thread())
            answers.wait(PATIENCE)
            return [_found(server.port)]

        monkeypatch.setattr(socket, "getaddrinfo", hang)
        target = endpoint("http://api.test/")
        failures = []

        def connect():
            took = Stopwatch()
            with pytest.raises(UnreachableError, match=r"no connection to api\.test:80: .*name"):
                connections.connect(target.url, 0.2)
            failures.append((took.seconds, took.busy))

        for _ in range(2):
            lanes = [threading.Thread(target=connect) for _ in range(10)]
            for lane in lanes:
                lane.start()
            for lane in lanes:
                lane.join(PATIENCE)

        assert len(failures) == 20
        assert all(took >= 0.19 and busy < 0.5 for took, busy in failures)
        assert all(thread.daemon for thread in asked)
        answers.set()
        assert call(connections, target).text == "HTTP 200"


def test_each_address_of_a_host_has_its_part_of_the_time(connections, monkeypatch):
    """One that never answers does not take the time of the next."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, Server(answering(OK)) as server:
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        found = [_found(full.getsockname()[1]), _found(server.port)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found)

        opened = connections.connect("http://api.test/", 0.4)

        opened.close()
        for one in waiting:
            one.close()


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    """The certificate of a CA, and a server context with its certificate for `localhost`."""
    place = tmp_path_factory.mktemp("tls")
    ca = make_ca(program("openssl"), place, "ca")
    key, certificate = make_certificate(program("openssl"), place, ca)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return ca, context


def encrypted(context, script):
    """Return the script over TLS."""

    def over_tls(peer):
        with context.wrap_socket(peer.sock, server_side=True) as peer.sock:
            script(peer)

    return over_tls


def test_calls_over_tls_share_a_connection_and_its_tickets_are_no_answer(connections, certified, monkeypatch):
    """What TLS says for itself is not taken for something unasked, not even where no call has been made yet."""
    ca, context = certified
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    with Server(encrypted(context, answering(HINTS + OK, REFUSED))) as server:
        target = endpoint(f"https://localhost:{server.port}/")
        connections.put_back(connections.connect(target.url, PATIENCE))
        outcomes = [call(connections, target, request(number)) for number in range(3)]

        assert [outcome.text[:8] for outcome in outcomes] == ["HTTP 200", "HTTP 422", "HTTP 422"]
        assert server.connections == 1
        assert server.requests[0][0].startswith("POST / HTTP/1.1\r\nHost: localhost:")
        connections.close()  # the server waits for that


def test_what_comes_unasked_over_tls_is_no_answer_either(connections, certified, monkeypatch):
    """The kept connection is given up for what lies on it, decrypted or not."""
    ca, context = certified
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    with Server(encrypted(context, answering(OK + REFUSED))) as server:
        outcomes = [call(connections, endpoint(f"https://localhost:{server.port}/")) for _ in range(2)]

        assert [outcome.text for outcome in outcomes] == ["HTTP 200"] * 2
        assert server.connections == 2


@pytest.mark.parametrize(("host", "trusted"), [("localhost", False), ("127.0.0.1", True)])
def test_a_server_that_cannot_prove_who_it_is_gets_nothing(connections, certified, monkeypatch, host, trusted):
    """An unknown CA, or a certificate for another name: no connection, so no request."""
    ca, context = certified
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    with Server(encrypted(context, answering(OK))) as server:
        with pytest.raises(UnreachableError, match=rf"no connection to {host}:{server.port}: .*certificate"):
            connections.connect(f"https://{host}:{server.port}/", PATIENCE)

        assert server.requests == []


def test_a_handshake_that_hangs_and_a_reader_that_does_not_read_end_in_time(connections, certified, monkeypatch):
    """Over TLS each step has one deadline as well."""
    ca, context = certified
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    with Server(Peer.until_closed) as silent:
        took = Stopwatch()
        with pytest.raises(UnreachableError, match="timed out"):
            connections.connect(f"https://localhost:{silent.port}/", 0.2)
        assert took.busy < 0.5
        assert took.seconds >= 0.19
    done = threading.Event()
    with Server(encrypted(context, lambda _peer: done.wait(PATIENCE))) as deaf:
        target = endpoint(f"https://localhost:{deaf.port}/")
        opened = connections.connect(target.url, PATIENCE)
        took = Stopwatch()
        big = request(item=b'"' + b"y" * 20_000_000 + b'"')
        trouble = exchange(connections, opened, target, time.monotonic() + 0.3, big)
        busy = took.busy
        done.set()

        assert trouble.text.startswith("the request could not be sent completely: ")
        assert busy < 0.8
        assert took.seconds >= 0.29
