"""An endpoint that echoes everything it receives: no secret of it in a dead letter, in `rlm explain`, in the log."""

from __future__ import annotations

import base64
import json
import logging
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from rlm.cli.group import rlm
from rlm.settings.secrets import Secrets, remember
from tests.acceptance.scripted import Server
from tests.bench import FIRST, SECOND, Bench
from tests.values import replace

TOKEN = "t0ken/of+the house"
QUERY_KEY = "k3y-0f-the-query"


def echoing(status, prefix=b""):
    """Return a script that answers with the request's own header, in clear and as JSON, URL and base64 encode it."""

    def script(peer):
        while found := peer.request():
            head = found[0]
            told = [head, json.dumps(head), quote(head, safe=""), base64.b64encode(TOKEN.encode()).decode()]
            body = prefix + "\n".join(told).encode()
            peer.send(f"HTTP/1.1 {status} {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    return script


@pytest.fixture
def bench(valkey_only_url, tmp_path, monkeypatch):
    """A bench whose calls have secrets in headers and URL."""
    monkeypatch.setenv("API_TOKEN", f"Bearer {TOKEN}")
    with Bench(valkey_only_url, tmp_path, max_attempts=3, max_runs=1) as bench:
        yield bench
    remember(Secrets())


def carry_to(bench, server, event_id):
    """Carry the event to a server that both endpoints name."""
    headers = {"Authorization": "env:API_TOKEN", "X-Tenant": "blue"}
    url = f"{server.url}?api_key={QUERY_KEY}"
    bench.change_endpoints(lambda one: replace(one, url=f"{url}&{one.name}", headers=headers))
    remember(Secrets([TOKEN, QUERY_KEY, "0thers-s3cret"]))
    bench.carry(until=lambda: not bench.where())
    return bench.event(event_id)


def test_the_secret_of_another_endpoint_is_masked_as_well(bench):
    """Both may belong to one provider, which knows it though it was not sent with this call."""
    (event_id,) = bench.take()

    def script(peer):
        while peer.request():
            peer.send(b"HTTP/1.1 422 No\r\nContent-Length: 33\r\n\r\nsee http://a/b9x8, 0thers-s3cret!!")

    with Server(script) as server:
        carry_to(bench, server, event_id)
        bench.connections.close()

    (letter,) = bench.letters()
    assert "see http://a/b9x8, ***!" in letter["detail"]


@pytest.mark.parametrize(
    ("status", "prefix"),
    [(422, b""), (422, b"x" * 120), (422, b"x" * 160), (500, b"x" * 100), (400, b"x" * 40)],
)
def test_what_an_endpoint_echoes_is_kept_without_the_secrets(bench, caplog, status, prefix):
    """Wherever its answer is cut off, and whether it is a rejection or a failure after three attempts."""
    caplog.set_level(logging.DEBUG)
    (event_id,) = bench.take()
    with Server(echoing(status, prefix)) as server:
        carry_to(bench, server, event_id)
        bench.connections.close()
        assert TOKEN in server.requests[0][0]
        assert QUERY_KEY in server.requests[0][0]

    (letter,) = bench.letters()
    explained = CliRunner().invoke(rlm, ["explain", event_id, "--json", "--config", str(bench.config)])

    assert explained.exit_code == 0, explained.output
    assert f"HTTP {status}: " in letter["detail"]
    assert "***" in letter["detail"] or len(prefix) > 150
    raw = b"".join(bench.store.letters.all()).decode()
    for secret in (
        TOKEN,
        TOKEN[:6],
        QUERY_KEY[:6],
        base64.b64encode(TOKEN.encode()).decode(),
    ):
        assert not [where for where in (raw, explained.output, caplog.text) if secret in where], secret
    assert bench.where() == {}


def test_what_an_endpoint_echoes_compressed_is_not_kept(bench):
    """Nobody could read it, and nobody could find a secret in it."""
    (event_id,) = bench.take()

    def script(peer):
        while found := peer.request():
            body = found[0].encode()
            head = f"HTTP/1.1 422 X\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
            peer.send(head.encode() + body)

    with Server(script) as server:
        carry_to(bench, server, event_id)
        bench.connections.close()

    assert bench.letters()[0]["detail"] in {f"{name} answered HTTP 422" for name in (FIRST, SECOND)}
