from __future__ import annotations

import socket
import socketserver
import subprocess
import threading
from contextlib import closing, contextmanager

import pytest
import redis
from redis._parsers.base import BaseParser

from rlm.core.errors import (
    StoreUnreachableError,
)
from rlm.ledger.connect import in_own_words, make_client, translated
from rlm.ledger.embedded import EmbeddedServer, binary_path
from tests.wait import wait_until

pytestmark = pytest.mark.both_servers


@contextmanager
def forgetful_server():
    """A server that accepts commands, does not answer INCR, and counts those."""
    received = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            while data := self.request.recv(65536):
                if b"INCR" in data:
                    received.append(data)
                    return
                self.request.sendall(b"+OK\r\n" * data.count(b"SETINFO") + b"$0\r\n\r\n" * data.count(b"\nINFO"))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"redis://127.0.0.1:{server.server_address[1]}", received
        finally:
            server.shutdown()
            thread.join()


def free_port():
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_a_command_whose_answer_was_lost_is_not_sent_again():
    """A connection cut before the answer is an error at once, because the command may have been carried out."""
    with forgetful_server() as (url, received), make_client(url) as client:
        with pytest.raises(StoreUnreachableError), translated(client):
            client.incr("n")
        with pytest.raises(StoreUnreachableError), translated(client):
            client.pipeline(transaction=False).incr("n").incr("n").execute()

        assert len(received) == 2


def test_an_unreachable_server_is_named_without_its_password():
    """The message says where it should be and what to do, and keeps the login to itself."""
    port = free_port()
    client = make_client(f"redis://user:s3cret@127.0.0.1:{port}/2?socket_timeout=1")
    with client, pytest.raises(StoreUnreachableError) as raised, translated(client):
        client.ping()

    assert str(raised.value).startswith(f"Redis at redis://127.0.0.1:{port}/2 cannot be reached")
    assert str(raised.value).partition("): ")[2].startswith("start it, or correct redis.url (or REDIS_URL)")
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:pw@host:7000/3", "redis://host:7000/3"),
        ("redis://host?password=pw", "redis://host"),
        ("rediss://:pw@host", "rediss://host"),
        ("unix:///a%20b/c.sock?db=2", "unix:///a%20b/c.sock"),
        ("redis+sentinel://u:pw@one:1,two,[::1]:3/main/4", "redis+sentinel://one:1,two,[::1]:3/main/4"),
        ("rediss+sentinel://u:pw@one/main?sentinel_password=p", "rediss+sentinel://one/main"),
    ],
)
def test_every_kind_of_url_is_understood(url, shown):
    """The client goes where the URL says, without connecting yet, and can say so without the login."""
    with make_client(url) as client:
        assert client.address == shown


def test_sentinel_leads_to_the_master(tmp_path):
    """A redis+sentinel URL asks the sentinels, of which some may be away, for the master and speaks to that."""
    port, sentinel_port, absent = free_port(), free_port(), free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(f"port {sentinel_port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {port} 1\n")
    command = [binary_path(), config, "--sentinel"]
    with EmbeddedServer(tmp_path / "rlm", port) as server, make_client(server.url) as direct:
        sentinel = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tmp_path)
        try:
            with make_client(f"redis+sentinel://127.0.0.1:{absent},127.0.0.1:{sentinel_port}/main/1") as client:
                wait_until(lambda: _answers(client), message="the sentinel names the master")
                client.set("k", "v")
            assert direct.info("keyspace")["db1"]["keys"] == 1
        finally:
            sentinel.terminate()
            sentinel.wait()


def _answers(client):
    try:
        return client.ping()
    except redis.ConnectionError:
        return False


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", "`maxmemory`"),
        ("LOADING Redis is loading the dataset in memory", "wait until it has read its data"),
        ("READONLY You can't write against a read only replica.", "its primary"),
        ("MISCONF Errors writing to the AOF file: No space left on device", "disk is full"),
        ("MISCONF Redis is configured to save RDB snapshots, but is currently unable to persist", "its disk"),
    ],
)
def test_what_a_server_refuses_names_the_thing(said, remedy):
    """Also where redis-py takes the code from the text."""
    assert remedy in str(in_own_words(BaseParser.parse_error(said), None))
