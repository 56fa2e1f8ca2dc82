"""docs/contract.md shows the call that an endpoint receives."""

from __future__ import annotations

import json
import re
from pathlib import Path

from rlm import __version__
from tests import bench as benches
from tests.acceptance.scripted import OK, Server, answering
from tests.values import replace

PAGE = (Path(__file__).parents[2] / "docs" / "contract.md").read_text(encoding="utf-8")
#: What the page has for the secret of the endpoint's configuration.
TOKEN = "Bearer TOKEN"


def shown():
    """Return the page's request: its path, its headers, its body."""
    head = re.search(r"```http\nPOST (\S+) HTTP/1\.1\n(.*?)```", PAGE, re.DOTALL)
    headers = dict(line.split(": ", 1) for line in head[2].splitlines())
    return head[1], headers, json.loads(re.search(r"```http\n.*?```json\n(.*?)```", PAGE, re.DOTALL)[1])


def test_the_call_shown_is_the_one_sent(valkey_only_url, tmp_path, monkeypatch):
    """Path, headers and body, key by key in their order; only the id of the run is another."""
    path, headers, body = shown()
    item = json.dumps(body["item"]).encode()
    monkeypatch.setattr(benches, "TYPE", body["event_type"])
    monkeypatch.setenv("API_AUTHORIZATION", TOKEN)

    # An endpoint with a header from the environment, and the item of the page
    with Server(answering(OK)) as server, benches.Bench(valkey_only_url, tmp_path) as bench:
        secret = {"Authorization": "env:API_AUTHORIZATION"}
        bench.redirect(benches.FIRST, f"http://127.0.0.1:{server.port}{path}")
        bench.change_endpoints(lambda one: replace(one, headers=secret))
        bench.store.intake.push([item])
        bench.store.client.hdel(bench.store.keys.run, "staged")
        list(bench.store.intake.drain(bench.token, bench.run_id, {body["event_type"]: 5}))

        bench.carry()

    ((head, sent),) = server.requests
    first, *lines = head.split("\r\n")
    sent_headers = dict(line.split(": ", 1) for line in lines)
    assert first == f"POST {path} HTTP/1.1"
    usual = {"Host": f"127.0.0.1:{server.port}", "User-Agent": f"rlm/{__version__}", "Content-Length": str(len(sent))}
    assert sent_headers == headers | usual
    assert list(json.loads(sent).items()) == list({**body, "run_id": bench.run_id}.items())
    assert item in sent, "the item stands in the body as it came"
