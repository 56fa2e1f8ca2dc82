"""A server on loopback that plays a script on each connection, and a call to it like that of a lane."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress

from rlm.core.endpoint import Endpoint, Limit
from rlm.delivery.attempt import Call, outcome_of
from rlm.delivery.http import BrokenAnswerError, render
from rlm.ledger.turns import Claim

#: Seconds after which an expected event has not happened.
PATIENCE = 10.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ITEM = b'{"id":"i","wallet_name":"w","events":["T"]}'


class Peer:
    """One connection from the server's side."""

    def __init__(self, sock):
        self.sock = sock
        self.buffer = b""

    def request(self):
        """Read one request: its head as text, its body; None at the end of the connection."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.more():
                return None
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        while len(self.buffer) < length:
            if not self.more():
                return None
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return head.decode("latin-1"), body

    def send(self, data):
        self.sock.sendall(data)

    def trickle(self, data):
        """Send a byte every 0.1 s until the client gives up; never ends by itself."""
        while True:
            for byte in data:
                self.send(bytes([byte]))
                self.sock.settimeout(0.1)
                try:
                    if not self.sock.recv(1):
                        return
                except TimeoutError:
                    continue

    def until_closed(self):
        while self.more():
            pass

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def more(self):
        data = self.sock.recv(65536)
        self.buffer += data
        return bool(data)


class Server:
    """A server on loopback that plays a script on each connection."""

    def __init__(self, script):
        self.script = script
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/path"
        self.requests = []
        self.connections = 0
        self.open = 0
        self.socks = []
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            self.open += 1
            self.socks.append(sock)
            thread = threading.Thread(target=self.play, args=(sock,))
            self.threads.append(thread)
            thread.start()

    def play(self, sock):
        peer = Peer(sock)
        read = peer.request

        def request():
            found = read()
            if found is not None:
                self.requests.append(found)
            return found

        peer.request = request
        with sock, suppress(OSError):
            self.script(peer)
        self.open -= 1

    def close(self):
        for sock in (self.listener, *self.socks):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self.threads:
            thread.join(PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.close()


def answering(*answers):
    """Return a script that answers each request in turn, repeating the last answer."""

    def script(peer):
        number = 0
        while peer.request():
            peer.send(answers[min(number, len(answers) - 1)])
            number += 1

    return script


def once(act):
    """Return a script that reads one request, then calls `act`."""

    def script(peer):
        if peer.request():
            act(peer)

    return script


def endpoint(url, headers=None, name="api"):
    return Endpoint(name, url, Limit.parse("30/minute"), 10.0, headers or {})


def request(number=1, item=ITEM, **changes):
    """Return the claim of a call."""
    usual = {"event_id": f"i{number}:T", "wallet_name": "w", "run_id": "r1", "attempt": 0}
    times = {"number": 1, "stamp": 0, "deadline_us": 0, "call_us": 0, "need_us": 0, "tries": 0, "runs": 0}
    return Claim(endpoint="api", worker_id="here:1:w", item=item, **times, **usual | changes)


def call(connections, target, wanted=None, seconds=PATIENCE):
    """Connect, send, receive, like a lane."""
    deadline = time.monotonic() + seconds
    return exchange(connections, connections.connect(target.url, seconds), target, deadline, wanted)


def exchange(connections, connection, target, deadline, wanted=None):
    """Send and receive over a connection, and put it back."""
    claim, sent_at = wanted or request(), None
    try:
        connection.send(render(target, claim), deadline)
        sent_at = time.monotonic()
        end = connection.receive(deadline)
    except (OSError, ValueError, BrokenAnswerError) as error:
        end = error
    finally:
        connections.put_back(connection)
    seconds = time.monotonic() - (sent_at or deadline)
    return outcome_of(Call(claim, target, end, seconds, is_sent=sent_at is not None))
