"""A server with Sentry's ingest protocol on loopback, which keeps what it receives."""

from __future__ import annotations

import gzip
import http.server
import json
import threading
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Item:
    """One item of an envelope: its kind (`event`, `check_in`, ...) and its content, None if that is not JSON."""

    kind: str
    body: Any


def read_envelope(data: bytes) -> list[Item]:
    """Parse an envelope: a line of headers, then for each item a line of headers and its payload.

    A payload has its `length`, which may include line breaks; without a length it ends with the line.
    """
    _headers, _, rest = data.partition(b"\n")
    items = []
    while rest.strip():
        line, _, rest = rest.partition(b"\n")
        if not line:
            continue
        headers = json.loads(line)
        length = headers.get("length", rest.find(b"\n") if b"\n" in rest else len(rest))
        payload, rest = rest[:length], rest[length:].removeprefix(b"\n")
        try:
            body = json.loads(payload)
        except ValueError:
            body = None
        items.append(Item(headers["type"], body))
    return items


class Ingest:
    """Receives envelopes like Sentry. `bodies` are the received envelopes, unpacked; `keys` their senders."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.keys: list[str] = []
        self.bodies: list[bytes] = []
        taken = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                taken.paths.append(self.path)
                taken.keys.append(self.headers.get("X-Sentry-Auth", ""))
                taken.bodies.append(body)
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_args):
                """Log nothing."""

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True  # a client that was killed leaves its connection open

            def handle_error(self, *_args):
                """Log nothing about a client that was killed during a request."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.dsn = f"http://public@127.0.0.1:{self.server.server_port}/42"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))

    def items(self, kind: str) -> list[Any]:
        """Return the contents of the items of a kind, in the order of arrival."""
        return [item.body for body in list(self.bodies) for item in read_envelope(body) if item.kind == kind]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The errors and alarms."""
        return self.items("event")

    @property
    def check_ins(self) -> list[dict[str, Any]]:
        """The check-ins of Crons monitors."""
        return self.items("check_in")

    @property
    def issues(self) -> dict[tuple[str, ...], list[dict[str, Any]]]:
        """The events by fingerprint: what Sentry shows as one issue each."""
        found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for event in self.events:
            found.setdefault(tuple(event["fingerprint"]), []).append(event)
        return found

    @property
    def everything(self) -> bytes:
        """All bytes that arrived, to be searched for what must not be there."""
        return b"\n".join([*self.bodies, *map(str.encode, self.paths)])

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
