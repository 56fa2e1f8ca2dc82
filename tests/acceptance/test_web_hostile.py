"""Untrusted data is text on every page; no path or query breaks a page or leads elsewhere."""

from __future__ import annotations

import http.client
import json
import re
import socket
import sys
from html.parser import HTMLParser
from urllib.parse import quote

import pytest
from jinja2 import Environment, nodes

from rlm.ledger.processes import Process, Role
from rlm.web.pages.page import _ENVIRONMENT, TEMPLATES
from tests.acceptance.cli import Installation
from tests.acceptance.test_security_texts import HOSTILE, unsafe
from tests.acceptance.webapp import served
from tests.each import each
from tests.store import steps

pytestmark = pytest.mark.rest

#: Markup that would show in a tag of its own, ends every kind of quotes, and a link that would be a script.
PLANTED = "<x-planted onclick=alert(1)>\"'`><script>alert(1)</script><!--"
SCRIPT = "javascript:alert(1)"
TEXT = f"{SCRIPT}//{PLANTED}{HOSTILE}"
#: An id has visible ASCII characters only, but may be markup, a path, a query, and a template.
ITEM = "javascript:/..//%2f?a=1#b&<x-planted/onclick=alert(1)>\"'{{7*7}}"
EVENT = f"{ITEM}:{steps.TYPE}"


class Looked(HTMLParser):
    """The `faults` of a page, that is, anything active in it; and its text."""

    #: Attributes that lead somewhere.
    LINKS = frozenset({"href", "src", "action", "formaction", "xlink:href"})
    NO_SUCH = frozenset({"x-planted", "style", "iframe", "object", "embed", "base", "img", "foreignobject"})

    def __init__(self, page):
        super().__init__()
        self.faults: list[str] = []
        self.text = ""
        self.in_script = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.in_script = tag == "script"
        is_ours = dict(attrs).get("src") == "/static/icon.svg"
        if (tag in self.NO_SUCH and not is_ours) or (tag == "script" and not dict(attrs).get("src")):
            self.faults.append(f"<{tag}>")
        for name, value in attrs:
            leads_out = (name in self.LINKS and not re.match("[/?#]", value or "")) or (value or "").startswith("//")
            if name.startswith("on") or name == "style" or leads_out:
                self.faults.append(f"<{tag} {name}={value}>")
            self.text += f"{value}\n"

    def handle_endtag(self, _tag):
        self.in_script = False

    def handle_data(self, data):
        if self.in_script and data.strip():
            self.faults.append(f"script {data}")
        self.text += data


def announce(store):
    """Let processes with hostile texts live, for some seconds."""
    for host in (TEXT, "another"):
        store.processes.announce(Role.WORKER, Process(f"{host}1", 1, host, 0.0, TEXT, 1, TEXT, TEXT))
    store.processes.announce(Role.SCHEDULER, Process(TEXT, 1, TEXT, 0.0, revision=TEXT))


@pytest.fixture
def inst(tmp_path, valkey_only_url):
    """An installation with hostile text in everything that others may write."""
    with Installation(tmp_path, valkey_only_url) as made:
        store = made.store
        made.push(
            steps.item(ITEM, steps.TYPE, wallet_name=TEXT),
            steps.item("i2", steps.TYPE, wallet_name=TEXT, note=TEXT),
            json.dumps({"id": "i3", "wallet_name": TEXT, "events": [TEXT, SCRIPT]}).encode(),
            TEXT.encode("utf-8", "surrogatepass"),
            json.dumps({"id": "i4", "wallet_name": TEXT, "events": []}, ensure_ascii=False).encode(),
        )
        announce(store)
        over = made.start_run()
        claim = steps.claim(store)
        assert steps.reject(store, claim, f"it answered {TEXT}")
        made.over = over.id
        made.close_run(over)
        made.push(*(steps.item(name, steps.TYPE, steps.OTHER_TYPE, wallet_name=TEXT) for name in ("i5", "i6")))
        made.open = made.start_run(600).id
        assert steps.complete(store, steps.claim(store))
        letter = {"id": TEXT, "reason": TEXT, "detail": TEXT, "failed_at": TEXT, "event_id": TEXT}
        store.client.lpush(made.settings.queue.failed, json.dumps({**letter, TEXT: 1, "item": {"events": [TEXT]}}))
        made.rlm("endpoint", "pause", steps.ENDPOINT)
        yield made


@pytest.fixture
def unread(monkeypatch):
    """The attributes that templates read, by template and line, without those that were read since."""
    sources = {name: _ENVIRONMENT.parse((TEMPLATES / name).read_text()) for name in _ENVIRONMENT.list_templates()}
    left = {(name, node.lineno, node.attr) for name in sources for node in sources[name].find_all(nodes.Getattr)}

    def read(value, attribute):
        reader = sys._getframe(1)
        if (name := reader.f_globals.get("name")) in sources:
            line = _ENVIRONMENT.get_template(name).get_corresponding_lineno(reader.f_lineno)
            left.discard((name, line, attribute))
        return Environment.getattr(_ENVIRONMENT, value, attribute)

    monkeypatch.setattr(_ENVIRONMENT, "getattr", read)
    return left


def pages(inst):
    """Return paths of every page, each also with hostile texts."""
    said, event = quote(TEXT, safe=""), quote(EVENT, safe="")
    return [
        *("/", "/endpoints", "/runs", "/queue", "/failures", "/compliance", "/whatif", "/nothing", "/login"),
        *(f"/runs/{inst.over}", f"/runs/{inst.open}", "/events/i6"),
        *("/queue?after=9", "/failures?after=1", "/failures?search=none"),
        *(f"/events/{event}", f"/events/{quote(ITEM, safe='')}", f"/events/{said}", f"/runs/{said}", f"/{said}"),
        *(f"/search?q={event}", f"/search?q={said}", "/search?q=i2"),
        *(f"/runs?before={said}", f"/queue?type={said}&wallet={said}&item={said}"),
        *(f"/queue?older-than={said}&state={said}", f"/failures?reason={said}&type={said}&endpoint={said}"),
        *(f"/failures?answer={said}&since={said}&search={said}", f"/failures?search={quote(SCRIPT)}"),
        *(f"/whatif?for={said}&workers={said}&events.{steps.TYPE}={said}&{said}={said}", f"/compliance?since={said}"),
    ]


def test_what_comes_from_outside_is_text_on_every_page(inst, unread):
    """Items, types, answers, letters of another program, processes of another host, and whatever a link asks for.

    With a run open and without; between them all that a template can read of a document is there.
    """
    found, told = [], ""
    for is_over in (False, True):
        if is_over:
            inst.close_run(inst.store.runs.current())
        announce(inst.store)
        with served(inst.store, hosts=[]) as client:
            browser = client.browser()
            for path in pages(inst):
                answer = browser.get(path)
                page = answer.data.decode()
                looked = Looked(page)
                found += [f"{path}: {fault}" for fault in looked.faults]
                found += [f"{path}: {one!r} is not made visible" for one in sorted(unsafe(page))]
                found += [f"{path}: {answer.status}"] if answer.status >= 500 else []
                found += [] if answer.headers.get("Content-Security-Policy") else [f"{path}: no policy"]
                told += looked.text

    assert found == []
    assert unread == set()
    assert PLANTED in told
    assert EVENT in told


#: Paths and queries that try to lead out of a folder, or to what a page cannot make sense of.
TRICKS = f"""
    /runs/..%2f /runs/..%2f..%2fetc%2fpasswd /runs/.. /api/runs/..%2f //evil.example/ /\\evil /%00 /?a=%00
    /static/..%2f..%2fapp.py /static/../app.py /static/%2e%2e/app.py /static//etc/passwd /static/rlm.css%00
    /events/%00 /events/ /events/%ff%fe /api/events/%00 /?{"a=b&" * 2_500}
    /search?q=%00 /search?q=%ff /search?q=%ed%a0%80 /search?q={"a" * 10_000} /failures?search={"a" * 10_000}
    /failures?since=%D9%A1h /failures?since=1h%0a /failures?from=99999999999999999999 /failures?after=1e9
    /queue?older-than=nan /queue?older-than=1e400 /queue?from=zzz /queue?after=-1 /runs?before=%00 /runs?page=-1
    /whatif?workers=1e9 /whatif?workers=99999999 /whatif?events.X=nan
    /whatif?for=counts&events.{steps.TYPE}=99999999999999 /whatif?for=counts&events.{steps.TYPE}=-1
    /api/failed?since=1h%0a /api/failed?limit=%D9%A1 /api/compliance?since=999999999d /api/plan?set=a%00=b
    /api/plan?count={steps.TYPE}%3D999999999999999999999 /api/plan?workers=1e9 /api/plan?count=%ff
""".split()


@each("path", TRICKS)
def test_no_path_or_query_breaks_a_page(client, path):
    """It is answered, soon, as something else than a fault of RLM; nothing of this host is read."""
    answer = client.get(path, Accept="text/html")

    assert answer.status < 500, (path, answer.status)
    assert answer.headers["Content-Security-Policy"]
    assert b"root:" not in answer.data
    assert b"import " not in answer.data
    assert unsafe(answer.data.decode()) == set()


@pytest.fixture
def client(inst):
    with served(inst.store) as made:
        yield made


def status_of(port, request):
    """Return the status of the answer to these bytes; 0 if the connection is cut without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.sendall(request)
        answer = http.client.HTTPResponse(sock)
        try:
            answer.begin()
        except (ConnectionError, http.client.HTTPException):
            return 0
        return answer.status


HEAD = b"Host: localhost\r\nConnection: close\r\n"
SAME = b"Origin: http://localhost\r\n"


@each(
    ("request", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n" + HEAD[17:] + b"\r\n", 421),
        (b"GET / HTTP/1.1\r\n" + HEAD + b"Host: evil.example\r\n\r\n", 421),
        (b"GET /\x00 HTTP/1.1\r\n" + HEAD + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HEAD + b"Cookie: rlm_session=\xff.1.2.\xff\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\n" + HEAD + b"Cookie: rlm_session=" + b"1." * 2000 + b"\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\n" + HEAD + b"Authorization: Bearer \xff\r\n\r\n", 200),
        (b"POST /api/runs HTTP/1.1\r\n" + HEAD + b"Origin: http://[::1\r\n\r\n", 403),
        (b"POST /api/runs HTTP/1.1\r\n" + HEAD + b"Origin: \xff\r\n\r\n", 403),
        (b"POST /login HTTP/1.1\r\n" + HEAD + SAME + b"Content-Length: 100000\r\n\r\n" + b"a" * 100_000, 0),
        (b"POST /login HTTP/1.1\r\n" + HEAD + SAME + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", 400),
        (b"POST /login HTTP/1.1\r\n" + HEAD + SAME + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        *((f"{one} / HTTP/1.1\r\n".encode() + HEAD + b"\r\n", 403) for one in ("PUT", "DELETE", "PATCH", "TRACE")),
        (b"OPTIONS / HTTP/1.1\r\n" + HEAD + b"\r\n", 405),
        (b"HEAD / HTTP/1.1\r\n" + HEAD + b"\r\n", 200),
        (b"FOO / HTTP/1.1\r\n" + HEAD + b"\r\n", 400),
    ],
)
def test_no_request_breaks_the_server(client, request, status):
    """However malformed or large."""
    name = client.browser().headers["Cookie"].partition("=")[0].encode()
    request = request.replace(b"rlm_session", name)
    assert status_of(client.port, request) == status
