"""Servers and sentinels with just enough of Redis's protocol to be found and left."""

from __future__ import annotations

import socketserver
import threading
from contextlib import contextmanager

import hiredis


class FakeServer(socketserver.ThreadingTCPServer):
    """Answers each command by the method of its name, or OK. `heard` are the commands."""

    daemon_threads = True

    def __init__(self):
        self.heard = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def port(self):
        return self.server_address[1]

    def answer(self, words):
        self.heard.append(words[0])
        found = getattr(self, f"on_{words[0].lower()}", None)
        return b"+OK\r\n" if found is None else found(*words[1:])


class _Handler(socketserver.BaseRequestHandler):
    def handle(self):
        reader = hiredis.Reader(encoding="utf-8")
        try:
            while data := self.request.recv(65536):
                reader.feed(data)
                while (words := reader.gets()) is not False:
                    if (answer := self.server.answer(words)) is not None:
                        self.request.sendall(answer)
        except OSError:
            pass


class FakeRedis(FakeServer):
    """A primary that answers GET with its port, or with a refusal."""

    refusal = b""

    def on_info(self, _section):
        return bulk(f"run_id:{self.port:040x}\r\n")

    def on_get(self, _key):
        return self.refusal or bulk(str(self.port))


class FakeSentinel(FakeServer):
    """Names `port` as the primary of the service main."""

    def __init__(self, port):
        super().__init__()
        self.named = port

    def on_sentinel(self, *_words):
        state = {"name": "main", "ip": "127.0.0.1", "port": self.named, "flags": "master", "num-other-sentinels": 0}
        flat = [str(one) for pair in state.items() for one in pair]
        return f"*1\r\n*{len(flat)}\r\n".encode() + b"".join(map(bulk, flat))


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
