"""docs/call.md shows the call that an endpoint receives."""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from rlm import __version__
from tests import bench as benches

PAGE = (Path(__file__).parents[2] / "docs" / "call.md").read_text(encoding="utf-8")
#: What the page has for the secret of the endpoint's configuration.
TOKEN = "Bearer TOKEN"


@contextmanager
def recording():
    """Serve one endpoint that takes every event; yields its address and the calls it got."""
    calls = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            calls.append((self.path, dict(self.headers), body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args):
            """Keep quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", calls
        finally:
            server.shutdown()
            thread.join()


def shown():
    """Return the page's request: its path, its headers, its body."""
    head = re.search(r"```http\nPOST (\S+) HTTP/1\.1\n(.*?)```", PAGE, re.DOTALL)
    headers = dict(line.split(": ", 1) for line in head[2].splitlines())
    return head[1], headers, json.loads(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])


def test_the_call_shown_is_the_one_sent(valkey_only_url, tmp_path, monkeypatch):
    """Path, headers and body, key by key in their order; only the id of the run is another."""
    path, headers, body = shown()
    item = json.dumps({**body["item"], "events": [body["event_type"]]}).encode()
    monkeypatch.setattr(benches, "TYPE", body["event_type"])
    monkeypatch.setenv("API_AUTHORIZATION", TOKEN)

    # Given an endpoint with a header from the environment, and the item of the page
    with recording() as (url, calls), benches.Bench(valkey_only_url, tmp_path) as bench:
        secret = {"Authorization": "env:API_AUTHORIZATION"}
        bench.redirect(benches.FIRST, url + path)
        bench.change_endpoints(lambda one: replace(one, headers=secret))
        bench.store.intake.push([item])
        bench.store.client.hdel(bench.store.keys.run(bench.run_id), "staged")
        list(bench.store.intake.drain(bench.token, bench.run_id, {body["event_type"]: 5}))

        # When it is sent
        bench.carry()

    # Then the endpoint got what the page shows
    ((sent_to, sent_headers, sent),) = calls
    assert sent_to == path
    assert {name: sent_headers.get(name) for name in headers} == {**headers, "User-Agent": f"rlm/{__version__}"}
    expected = {**body, "run_id": bench.run_id, "item": json.loads(item)}
    assert list(json.loads(sent).items()) == list(expected.items())
    assert item in sent, "the item stands in the body as it came"
