"""Servers and sentinels with just enough of Redis's protocol to be found, followed and left."""

from __future__ import annotations

import socketserver
import threading
from contextlib import contextmanager

import hiredis


class FakeServer(socketserver.ThreadingTCPServer):
    """Answers each command by the method of its name, or OK. `heard` are the commands, `open` the connections."""

    daemon_threads = True

    def __init__(self):
        self.heard = []
        self.open = []
        self.listening = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def port(self):
        return self.server_address[1]

    def answer(self, words):
        self.heard.append(words[0])
        found = getattr(self, f"on_{words[0].lower()}", None)
        return b"+OK\r\n" if found is None else found(*words[1:])

    def tell(self, message):
        """Send something to all subscribers."""
        for one in list(self.listening):
            one.sendall(message)


class _Handler(socketserver.BaseRequestHandler):
    def handle(self):
        self.server.open.append(self.request)
        reader = hiredis.Reader(encoding="utf-8")
        try:
            while data := self.request.recv(65536):
                reader.feed(data)
                while (words := reader.gets()) is not False:
                    if (answer := self.server.answer(words)) is not None:
                        self.request.sendall(answer)
                    if words[0] == "SUBSCRIBE":
                        self.server.listening.append(self.request)
        except OSError:
            pass
        finally:
            self.server.open.remove(self.request)
            if self.request in self.server.listening:
                self.server.listening.remove(self.request)


class FakeRedis(FakeServer):
    """A primary, or with `of` a replica of the server at that port. It never answers BLPOP."""

    of = 0
    refusal = b""

    def on_info(self, section):
        text = f"run_id:{self.port:040x}\r\nrole:master\r\n"
        if section == "replication" and self.of:
            text = f"role:slave\r\nmaster_host:127.0.0.1\r\nmaster_port:{self.of}\r\n"
        return bulk(text)

    def on_blpop(self, *_words):
        return None

    def on_get(self, _key):
        return self.refusal or bulk(str(self.port))


class FakeSentinel(FakeServer):
    """Names `port` as the primary, by the configuration of `epoch`; `flags` are its flags of the primary."""

    def __init__(self, port, epoch=1, flags="master"):
        super().__init__()
        self.named, self.epoch, self.flags = port, epoch, flags

    def on_sentinel(self, *_words):
        state = {"name": "main", "ip": "127.0.0.1", "port": self.named, "flags": self.flags, "config-epoch": self.epoch}
        flat = [str(one) for pair in state.items() for one in pair]
        return f"*{len(flat)}\r\n".encode() + b"".join(map(bulk, flat))

    def on_subscribe(self, *channels):
        return b"".join(b"*3\r\n" + bulk("subscribe") + bulk(one) + b":1\r\n" for one in channels)

    def switch(self, port):
        """Name another primary, and publish that, as at the end of a fail-over."""
        before, self.named, self.epoch = self.named, port, self.epoch + 1
        self.publish("+switch-master", f"main 127.0.0.1 {before} 127.0.0.1 {port}")

    def begin(self, port):
        """Announce that the server at that port is about to be made the primary."""
        self.publish("+failover-state-send-slaveof-noone", f"slave s 127.0.0.1 {port} @ main 127.0.0.1 {self.named}")

    def publish(self, channel, text):
        self.tell(b"*3\r\n" + bulk("message") + bulk(channel) + bulk(text))


def bulk(text):
    raw = text.encode()
    return b"$%d\r\n%s\r\n" % (len(raw), raw)


@contextmanager
def running(*servers):
    """Run them."""
    threads = [threading.Thread(target=one.serve_forever, args=(0.01,)) for one in servers]
    for one in threads:
        one.start()
    try:
        yield servers
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()
