"""More connections than a server has file descriptors: it still answers, and its log stays small."""

from __future__ import annotations

import resource
import socket
from contextlib import ExitStack, contextmanager

import pytest

from tests.acceptance.webprocess import scheduler_alive, web

pytestmark = pytest.mark.rest

#: More than the server has descriptors, which is what `ulimit -n` says nearly everywhere.
CLIENTS, DESCRIPTORS = 1300, 1024
MOST_LOG_BYTES = 10_000
#: A page whose client does not read.
DASHBOARD = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(autouse=True)
def _room_for_clients():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < CLIENTS + 200:
        pytest.skip(f"this process may have {hard} file descriptors at most")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, CLIENTS + 200), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def answer(port, request=b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"):
    """Send a request on a new connection and return the status line; the whole answer if it is an error."""
    with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as client:
        client.sendall(request)
        said = client.recv(1000)
    return said if said.startswith(b"HTTP/1.1 5") else said.partition(b"\r\n")[0]


@contextmanager
def crowd(port, address, said=b""):
    """Hold the connections of all clients, and make a request after each fifty; yield the answers."""
    answers = []
    with ExitStack() as stack:
        for number in range(CLIENTS):
            client = stack.enter_context(socket.socket())
            client.bind((address(number), 0))
            client.connect(("127.0.0.1", int(port)))
            client.sendall(said)
            if number % 50 == 0:
                answers.append(answer(port))
        yield answers


def one_client(_number):
    return "127.0.0.1"


def many_clients(number):
    return f"127.0.{number // 250}.{number % 250 + 2}"


def test_the_health_check_is_answered_and_the_log_stays_small(tmp_path, valkey_only_url):
    """With more connections than descriptors, from one client and from many: silent, with half a request, or a page."""
    with (
        scheduler_alive(tmp_path, valkey_only_url),
        web(tmp_path, valkey_only_url, descriptors=DESCRIPTORS) as (process, port),
    ):
        crowds = [(one_client, b""), (many_clients, b"GET / HTTP/1.1\r\nX-Half: a h"), (many_clients, DASHBOARD)]
        for address, said in crowds:
            with crowd(port, address, said) as answers:
                answers += [answer(port) for _ in range(20)]
                assert set(answers) == {b"HTTP/1.1 200 OK"}
        assert process.poll() is None
        assert len((tmp_path / "web.log").read_text()) < MOST_LOG_BYTES
