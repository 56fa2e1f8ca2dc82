"""One HTTP call over real sockets: whatever the server does, one outcome by the deadline, no extra connection."""

from __future__ import annotations

import errno
import json
import logging
import re
import socket
import threading
import time
from contextlib import ExitStack, closing, contextmanager

import pytest

from rlm import __version__
from rlm.core.endpoint import Endpoint, EventType, Limit, Success
from rlm.delivery import connection
from rlm.delivery.connection import DOUBTFUL_CONNECT_SECONDS, UnreachableError
from rlm.delivery.http import Dispatcher
from rlm.delivery.http_message import MAX_ANSWER_BYTES, Request
from rlm.delivery.outcome import Delivered, Rejected, Throttled, Unreachable
from rlm.sandbox.mockapi import MockApi
from rlm.settings.secrets import Secrets, remember, resolve_headers
from tests.acceptance.scripted import OK, PATIENCE, Peer, Server, answering, call, endpoint, once, request
from tests.stopwatch import Stopwatch
from tests.values import replace
from tests.wait import wait_until

#: How late an outcome may come after its deadline, seconds.
LATE = 0.2


@pytest.fixture
def dispatcher():
    dispatcher = Dispatcher(resolve_headers)
    yield dispatcher
    dispatcher.close()


@contextmanager
def ends_by(seconds):
    """The block must end within `LATE` after `seconds`, and not earlier."""
    took = Stopwatch()
    yield
    in_time = took.busy <= seconds + LATE

    assert took.seconds >= seconds - 0.01
    assert in_time, f"took {took.seconds:.3f} s, where {seconds} s were given"


def test_many_calls_go_over_one_connection(dispatcher):
    """A connection is kept alive: calls one after the other open one."""
    with Server(answering(OK)) as server:
        outcomes = [call(dispatcher, endpoint(server.url), request(number)) for number in range(20)]

        assert all(isinstance(outcome, Delivered) and outcome.status == 200 for outcome in outcomes)
        assert (server.connections, len(server.requests)) == (1, 20)


def test_calls_at_the_same_time_open_one_connection_each_and_no_more(dispatcher):
    """Lanes share the pool: it grows to the calls under way at one time, and later calls open none."""
    lanes = threading.Barrier(4)

    def script(peer):
        while peer.request():
            lanes.wait(PATIENCE)
            peer.send(OK)

    with Server(script) as server:
        for _ in range(5):
            threads = [threading.Thread(target=call, args=(dispatcher, endpoint(server.url))) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)

        assert (server.connections, len(server.requests)) == (4, 20)


def test_the_mock_api_is_called_over_one_connection_and_its_refusals_are_understood(dispatcher):
    """Against the strict server: the limit's last call is delivered, the next is throttled with its Retry-After."""
    target = Endpoint("api", "http://elsewhere:1/api", Limit.parse("3 per 60 second"), 10.0)
    with MockApi([EventType("T", 1, 0.0, (target,))]) as api:
        here = endpoint(f"{api.url}/api")

        outcomes = [call(dispatcher, here, request(number)) for number in range(4)]

        assert [type(outcome) for outcome in outcomes] == [Delivered, Delivered, Delivered, Throttled]
        assert 58 <= outcomes[-1].retry_after <= 60
        assert [arrival.event_id for arrival in api.arrivals] == ["i0:T", "i1:T", "i2:T", "i3:T"]


@pytest.mark.parametrize(
    ("date", "seconds"), [("Date: Wed, 21 Oct 2015 07:28:00 GMT\r\n", 30.0), ("Date: soon\r\n", 0.0), ("", 0.0)]
)
def test_a_rest_until_a_date_is_reckoned_by_the_clock_of_the_server(dispatcher, date, seconds):
    """Its own `Date` says how far away that is, whatever this host takes the time to be; only without one it counts."""
    head = f"HTTP/1.1 429 X\r\n{date}Retry-After: Wed, 21 Oct 2015 07:28:30 GMT\r\nContent-Length: 0\r\n\r\n"
    with Server(answering(head.encode())) as server:
        assert call(dispatcher, endpoint(server.url)).retry_after == seconds


def test_a_connection_that_the_server_closed_meanwhile_is_replaced(dispatcher):
    """An idle connection that the server gave up costs nothing: the next call goes over a new one."""
    with Server(once(lambda peer: peer.send(OK))) as server:
        target = endpoint(server.url)
        first = call(dispatcher, target)
        wait_until(lambda: server.open == 0, message="the server has closed it")

        second = call(dispatcher, target)

        assert [first.status, second.status] == [200, 200]
        assert (server.connections, len(server.requests)) == (2, 2)


def test_a_call_on_a_connection_that_dies_just_then_is_not_sent_again(dispatcher):
    """Whether it arrived is not known, so nobody repeats it behind the ledger's back: no answer is the outcome."""
    with Server(lambda peer: peer.sock.shutdown(socket.SHUT_RDWR)) as server:
        target = endpoint(server.url)
        connection = dispatcher.connect(target, PATIENCE)
        wait_until(lambda: server.connections == 1 and server.open == 0, message="the server has closed it")

        deadline = time.monotonic() + PATIENCE
        trouble = dispatcher.send(connection, target, request(), deadline)
        outcome = trouble or dispatcher.receive(connection, target, time.monotonic(), deadline)

        assert trouble or (isinstance(outcome, Unreachable) and outcome.seconds is None)
        assert server.connections == 1


@pytest.mark.parametrize(
    "half",
    [
        b"",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ],
)
def test_half_an_answer_is_none(dispatcher, half):
    """An answer that breaks off is no answer, wherever it breaks off, and its connection is not used again."""
    with Server(once(lambda peer: peer.send(half))) as server:
        target = endpoint(server.url)

        outcome = call(dispatcher, target)

        assert isinstance(outcome, Unreachable), outcome
        assert outcome.seconds is None
        wait_until(lambda: server.open == 0, message="the connection is closed")


def test_a_body_without_a_length_ends_with_its_connection(dispatcher):
    """An answer of the old kind, whose body ends where the connection does, is whole."""
    with Server(once(lambda peer: peer.send(b"HTTP/1.0 200 OK\r\n\r\nas long as it takes"))) as server:
        outcomes = [call(dispatcher, endpoint(server.url)) for _ in range(2)]

        assert [outcome.status for outcome in outcomes] == [200, 200]
        assert server.connections == 2


@pytest.mark.parametrize("status", [200, 429, 500])
def test_a_body_that_trickles_is_cut_at_the_deadline(dispatcher, status):
    """A byte each 0.1 s never lets a socket time out; the deadline is that of the whole call."""
    head = f"HTTP/1.1 {status} X\r\nContent-Length: 1000\r\n\r\n".encode()

    def act(peer):
        peer.send(head)
        peer.trickle(b"x")

    with Server(once(act)) as server:
        with ends_by(0.6):
            outcome = call(dispatcher, endpoint(server.url), seconds=0.6)

        assert isinstance(outcome, Unreachable), outcome
        assert outcome.seconds is None
        assert outcome.detail.startswith("no answer within 0.6 s")
        wait_until(lambda: server.open == 0, message="the connection is closed")


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX: y", b"X-Slow: yes\r\n"])
def test_headers_that_trickle_are_cut_at_the_deadline(dispatcher, head):
    """Headers without end are no answer, even where the first of them says 200."""

    def act(peer):
        if not head.startswith(b"HTTP"):
            peer.send(b"HTTP/1.1 200 OK\r\n")
        peer.trickle(head)

    with Server(once(act)) as server:
        with ends_by(0.6):
            outcome = call(dispatcher, endpoint(server.url), seconds=0.6)

        assert isinstance(outcome, Unreachable), outcome
        assert outcome.seconds is None
        wait_until(lambda: server.open == 0, message="the connection is closed")


def test_a_server_that_never_answers_is_left_at_the_deadline(dispatcher):
    """Silence is cut at the deadline, and the server sees the connection close then."""
    with Server(once(Peer.until_closed)) as server:
        with ends_by(0.3):
            outcome = call(dispatcher, endpoint(server.url), seconds=0.3)

        assert outcome == Unreachable("no answer within 0.3 s", None, "no answer in time")
        wait_until(lambda: server.open == 0, message="the server saw it close")


def test_a_server_that_does_not_read_is_left_at_the_deadline(dispatcher):
    """A body too large for the buffers between here and there does not hold a lane beyond the deadline."""
    done = threading.Event()
    with Server(lambda peer: done.wait(PATIENCE)) as server:
        big = request(item=b'{"x":"' + b"y" * 50_000_000 + b'"}')
        with ends_by(0.4):
            outcome = call(dispatcher, endpoint(server.url), big, seconds=0.4)
        done.set()

        assert isinstance(outcome, Unreachable)
        assert outcome.seconds is None


def test_a_deadline_that_is_over_before_the_call_sends_nothing(dispatcher):
    """Neither is a connection opened for it."""
    with Server(once(Peer.until_closed)) as server:
        target = endpoint(server.url)
        connection = dispatcher.connect(target, PATIENCE)

        trouble = dispatcher.send(connection, target, request(), time.monotonic())
        with pytest.raises(UnreachableError, match="timed out"):
            dispatcher.connect(target, 0.0)

        assert trouble == Unreachable("the request could not be sent completely: timed out", None, "no answer in time")
        wait_until(lambda: server.connections == 1 and server.open == 0, message="the server saw it close")
        assert server.requests == []


def test_a_reset_after_the_body_was_read_is_no_answer(dispatcher):
    """The call may have been taken, so it counts as sent and unanswered."""
    with Server(once(Peer.reset)) as server:
        outcome = call(dispatcher, endpoint(server.url))

        assert isinstance(outcome, Unreachable)
        assert outcome.seconds is None
        assert outcome.detail.startswith("the connection broke after 0.0 s: ")
        assert len(server.requests) == 1


@pytest.mark.parametrize("garbage", [b"\x00" * 100, b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\r\n\r\n"])
def test_what_is_not_http_is_no_answer(dispatcher, garbage):
    """A server that speaks something else is unreachable, never an exception."""

    def act(peer):
        peer.send(garbage)
        peer.sock.shutdown(socket.SHUT_WR)
        peer.until_closed()

    with Server(once(act)) as server:
        outcome = call(dispatcher, endpoint(server.url), seconds=1.0)

        assert isinstance(outcome, Unreachable)
        assert outcome.seconds is None


def test_headers_beyond_reason_are_no_answer(dispatcher):
    """A header of twenty thousand lines, or a line of a megabyte, is given up, not read for ever."""
    for head in (b"X: y\r\n" * 20_000, b"X: " + b"y" * 1_000_000 + b"\r\n"):

        def act(peer, head=head):
            peer.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")

        with Server(once(act)) as server:
            outcome = call(dispatcher, endpoint(server.url), seconds=2.0)

            assert isinstance(outcome, Unreachable)
            assert outcome.seconds is None


def test_a_refused_connection_is_known_before_anything_is_sent(dispatcher):
    """Where nobody listens no slot is needed: the error comes from connecting, and names the endpoint."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(UnreachableError, match=rf"no connection to 127\.0\.0\.1:{port}: .*refused"):
        dispatcher.connect(endpoint(f"http://127.0.0.1:{port}/"), PATIENCE)


def test_a_name_that_does_not_resolve_is_known_before_anything_is_sent(dispatcher):
    """A host without an address cannot be connected to, which is an error of connecting."""
    with pytest.raises(UnreachableError, match="no connection to "):
        dispatcher.connect(endpoint("http://no-such-host.invalid/"), PATIENCE)


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
def test_a_server_that_accepts_nobody_is_given_up_in_time(dispatcher, monkeypatch, addresses):
    """A connection that does not come about ends in the time given for it, however many addresses its host has."""
    with crowded() as port:
        resolve(monkeypatch, *[port] * addresses)
        with ends_by(0.3), pytest.raises(UnreachableError, match="timed out"):
            dispatcher.connect(endpoint("http://api.test/"), 0.3)


@pytest.mark.rest
def test_once_nobody_acknowledged_a_call_nothing_kept_is_used_and_nobody_waited_for(dispatcher, monkeypatch):
    """The way of this host may be cut: what is kept, wherever to, may be dead, and who is there answers soon."""
    with Server(answering(OK)) as server, Server(once(Peer.until_closed)) as mute, crowded() as port:
        kept, target, away = endpoint(server.url), endpoint(mute.url), endpoint(f"http://127.0.0.1:{port}/")
        call(dispatcher, kept)
        connection = dispatcher.connect(target, PATIENCE)
        assert dispatcher.send(connection, target, request(), time.monotonic() + PATIENCE) is None
        with monkeypatch.context() as patch:
            patch.setattr(type(connection), "receive", unacknowledged)
            outcome = dispatcher.receive(connection, target, time.monotonic(), time.monotonic() + PATIENCE)
        assert outcome.silent

        wait_until(lambda: server.open == 0, message="what was kept to another server is closed")
        with ends_by(DOUBTFUL_CONNECT_SECONDS), pytest.raises(UnreachableError, match="timed out"):
            dispatcher.connect(away, PATIENCE)

        assert call(dispatcher, kept).status == 200
        longer = DOUBTFUL_CONNECT_SECONDS + 0.5
        with ends_by(longer), pytest.raises(UnreachableError, match="timed out"):
            dispatcher.connect(away, longer)


def test_a_connection_that_nobody_acknowledges_puts_the_way_in_doubt_as_well(dispatcher, monkeypatch):
    """What is kept is closed, and a new connection is waited for no longer than a moment."""
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.1)
    with Server(answering(OK)) as server, crowded() as port:
        kept, away = endpoint(server.url), endpoint(f"http://127.0.0.1:{port}/")
        call(dispatcher, kept)
        with pytest.raises(UnreachableError, match="timed out"):
            dispatcher.connect(away, PATIENCE)

        wait_until(lambda: server.open == 0, message="what was kept to another server is closed")
        monkeypatch.setattr(connection, "DOUBTFUL_CONNECT_SECONDS", 0.05)
        monkeypatch.setattr(connection, "CONNECT_SECONDS", PATIENCE)
        with ends_by(0.05), pytest.raises(UnreachableError, match="timed out"):
            dispatcher.connect(away, PATIENCE)


def unacknowledged(*_: object):
    raise OSError(errno.ETIMEDOUT, "Connection timed out")


def test_a_host_is_reached_at_the_first_address_that_answers(dispatcher, monkeypatch):
    """One that refuses costs nothing but the time to say so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        refusing = listener.getsockname()[1]
    with Server(answering(OK)) as server:
        resolve(monkeypatch, refusing, server.port)

        assert call(dispatcher, endpoint("http://api.test/")).status == 200


@pytest.mark.parametrize("name", ["a..b", "x" * 64])
def test_a_name_that_cannot_be_one_is_an_error_of_connecting(dispatcher, name):
    """Nor does it end the lane."""
    with pytest.raises(UnreachableError, match="no connection to "):
        dispatcher.connect(endpoint(f"http://{name}/"), PATIENCE)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_rejected_and_not_followed(dispatcher, status):
    """Calls go where the configuration says, wherever an answer points."""
    with Server(answering(OK)) as elsewhere:
        answer = f"HTTP/1.1 {status} Moved\r\nLocation: {elsewhere.url}\r\nContent-Length: 0\r\n\r\n".encode()
        with Server(answering(answer)) as server:
            outcome = call(dispatcher, endpoint(server.url))

            assert isinstance(outcome, Rejected)
            assert (outcome.status, outcome.detail) == (status, f"HTTP {status}")
        assert elsewhere.connections == 0


def test_proxies_of_the_environment_are_ignored(dispatcher, monkeypatch):
    """What the machine uses for browsing sees no event."""
    with Server(answering(OK)) as proxy, Server(answering(OK)) as server:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "")

        outcome = call(dispatcher, endpoint(server.url))

        assert (outcome.status, server.connections, proxy.connections) == (200, 1, 0)


def test_the_head_of_a_request_is_as_the_contract_says(dispatcher):
    """POST to the URL's path and query, with the four headers, the configured ones, and what HTTP itself needs."""
    with Server(answering(OK)) as server:
        target = endpoint(f"http://127.0.0.1:{server.port}/a/b%20c?x=1&y=%2F", {"X-Tenant": "blue", "Accept": "*/*"})
        call(dispatcher, target)

        head, body = server.requests[0]
        first, *lines = head.split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        assert first == "POST /a/b%20c?x=1&y=%2F HTTP/1.1"
        assert len(headers) == len(lines)
        assert headers.pop("Accept-Encoding", "identity") == "identity"
        assert headers == {
            "Host": f"127.0.0.1:{server.port}",
            "Content-Length": str(len(body)),
            "Content-Type": "application/json",
            "Idempotency-Key": "i1:T",
            "User-Agent": f"rlm/{__version__}",
            "X-Tenant": "blue",
            "Accept": "*/*",
        }


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
def test_the_item_is_passed_on_byte_for_byte(dispatcher, item):
    """The body has the contract's six keys, and in it the item exactly as it came."""
    with Server(answering(OK)) as server:
        wanted = Request("i:T", "T", "w€", "run-1", 7, item)
        call(dispatcher, endpoint(server.url), wanted)

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


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_big_answer_does_not_break_reuse(dispatcher, framing):
    """An answer of 200 kB is read to its end, so its connection serves the next call."""
    body = b"x" * 200_000
    head = b"HTTP/1.1 200 OK\r\n"
    if framing == "length":
        big = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    else:
        big = head + b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    with Server(answering(big, OK)) as server:
        outcomes = [call(dispatcher, endpoint(server.url)) for _ in range(3)]

        assert [outcome.status for outcome in outcomes] == [200] * 3
        assert server.connections == 1


@pytest.mark.parametrize("size", [MAX_ANSWER_BYTES - 1, MAX_ANSWER_BYTES, MAX_ANSWER_BYTES + 1, 5_000_000])
def test_an_answer_around_and_beyond_the_most_that_is_read_is_an_answer(dispatcher, size):
    """What is too much to read is cut off, but 200 was said: delivered, and the next call is as good as ever."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %07d\r\n\r\n"
    length = size - len(head % 0)
    big = head % length + b"x" * length
    with Server(answering(big)) as server:
        outcomes = [call(dispatcher, endpoint(server.url)) for _ in range(2)]

        assert [outcome.status for outcome in outcomes] == [200, 200]
        assert server.connections == (1 if size <= MAX_ANSWER_BYTES else 2)


@pytest.mark.parametrize(
    ("answer", "connections"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 1),
        (b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 1),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 1),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 1),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nok", 3),
    ],
    ids=["no content", "chunked", "continue", "keep-alive of 1.0", "close"],
)
def test_each_way_of_ending_an_answer_is_understood(dispatcher, answer, connections):
    """A connection is used again exactly where its answer leaves it usable."""
    with Server(answering(answer)) as server:
        outcomes = [call(dispatcher, endpoint(server.url)) for _ in range(3)]

        assert all(isinstance(outcome, Delivered) for outcome in outcomes)
        assert server.connections == connections


def test_bytes_that_follow_an_answer_are_never_taken_for_the_next_one(dispatcher):
    """A server that says more than it was asked for loses its connection: the next call gets its own answer."""

    def act(peer):
        peer.send(OK)
        kept.wait(PATIENCE)
        peer.send(b"HTTP/1.1 404 Stray\r\nContent-Length: 0\r\n\r\n")
        peer.until_closed()

    kept = threading.Event()
    with Server(once(act)) as server:
        target = endpoint(server.url)
        first = call(dispatcher, target)
        kept.set()
        wait_until(lambda: not dispatcher._idle[0][1].is_quiet(), message="the stray bytes are here")

        second = call(dispatcher, target)

        assert [first.status, second.status] == [200, 200]
        assert server.connections == 2


def test_a_connection_kept_without_a_call_serves_the_next_one(dispatcher):
    """A lane whose slot was refused puts its connection back unused."""
    with Server(answering(OK)) as server:
        target = endpoint(server.url)
        dispatcher.keep(target, dispatcher.connect(target, PATIENCE))

        assert call(dispatcher, target).status == 200
        assert server.connections == 1


def test_a_fresh_connection_takes_the_place_of_a_kept_one(dispatcher):
    """Of two that are kept one is closed and a new one opened; a call that asks for none such has what is kept."""
    with Server(answering(OK)) as server:
        target = endpoint(server.url)
        for connection in [dispatcher.connect(target, PATIENCE) for _ in range(2)]:
            dispatcher.keep(target, connection)
        wait_until(lambda: server.open == 2, message="both are open")

        dispatcher.keep(target, dispatcher.connect(target, PATIENCE, fresh=True))

        wait_until(lambda: (server.connections, server.open) == (3, 2), message="one was replaced")
        assert call(dispatcher, target).status == 200
        assert server.connections == 3


def test_what_the_answer_says_is_safe_to_show(dispatcher):
    """The excerpt of a rejection is printable ASCII and short, whatever the server wrote."""
    body = b"\x1b]0;title\x07no \xff\xfe such\r\nwallet" + b"!" * 1000
    answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with Server(answering(answer)) as server:
        outcome = call(dispatcher, endpoint(server.url))

        assert isinstance(outcome, Rejected)
        assert re.match(r"HTTP 404: \]0;title no +such wallet!!!", outcome.detail)
        assert outcome.detail.isprintable()
        assert len(outcome.detail) <= 210


def test_an_answer_that_is_not_what_success_is_may_be_repeated():
    """It has a name of its own, and says what came instead, without secrets; the endpoint itself is well."""
    remember(Secrets(["s3cr3t-0f-the-house"]))
    body = b"<p>Sign in, s3cr3t-0f-the-house" + b"!" * 1000
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with Server(answering(answer)) as server, closing(Dispatcher(resolve_headers)) as dispatcher:
        target = replace(endpoint(server.url), success=Success("application/json", "status", "ok"))

        outcomes = [call(dispatcher, target) for _ in range(2)]

        assert {(type(one), one.kind, one.seconds is None) for one in outcomes} == {
            (Unreachable, "unexpected_answer", False)
        }
        assert outcomes[0].detail.startswith("HTTP 200, unexpected_answer: text/html: <p>Sign in, ***!!!")
        assert len(outcomes[0].detail) < 250
        assert server.connections == 1
    remember(Secrets())


def test_a_secret_is_sent_and_nowhere_shown(monkeypatch, caplog):
    """A header's value from the environment reaches the server, and no log line, representation or outcome."""
    secret = "s3cr3t-0f-the-house"
    monkeypatch.setenv("API_TOKEN", secret)
    caplog.set_level(logging.DEBUG)
    dispatcher = Dispatcher(resolve_headers)
    with Server(once(Peer.reset)) as server:
        target = endpoint(server.url, {"Authorization": "env:API_TOKEN"})

        outcome = call(dispatcher, target)

        assert f"Authorization: {secret}" in server.requests[0][0].split("\r\n")
        shown = [repr(dispatcher), repr(target), repr(outcome), repr(vars(dispatcher)), caplog.text]
        assert not [text for text in shown if secret in text]
    dispatcher.close()


def test_a_secret_that_cannot_be_sent_is_not_quoted(monkeypatch, dispatcher):
    """A value that no header can have, changed after the start, fails the call without being told to anybody."""
    monkeypatch.setenv("API_TOKEN", "s3cr3t\nSmuggled: yes")
    with Server(answering(OK)) as server:
        target = endpoint(server.url, {"Authorization": "env:API_TOKEN"})
        connection = dispatcher.connect(target, PATIENCE)

        trouble = dispatcher.send(connection, target, request(), time.monotonic() + PATIENCE)

        assert trouble.kind == "a header that HTTP does not allow"
        assert "s3cr3t" not in trouble.detail
        wait_until(lambda: server.connections == 1 and server.open == 0, message="the server has read to the end")
        assert server.requests == []
