"""Who may read and order over HTTP: the token, sessions, foreign pages."""

from __future__ import annotations

import logging

import pytest

from rlm.web import access
from tests.acceptance.webapp import served
from tests.each import each

TOKEN = "a-token-of-24-characters"
ENDPOINT = "rebalance_api"
PAUSE = f"/api/endpoints/{ENDPOINT}/pause"


@pytest.fixture
def open_client(inst):
    """A client without a token: everybody who reaches the loopback interface may read."""
    with served(inst.store) as client:
        yield client


@pytest.fixture
def client(inst):
    """A client with a token."""
    with served(inst.store, TOKEN) as client:
        yield client


def is_paused(inst):
    return inst.store.rules.changes() != []


def test_a_browser_on_this_host_may_order_by_its_session(inst, open_client):
    """The first page begins it, with a cookie that no script can read and no other site sends along."""
    cookie = open_client.get("/", Accept="text/html").headers["Set-Cookie"]
    browser = open_client.browser()

    assert browser.post(PAUSE, {"seconds": 5}).status == 200
    assert {"httponly", "samesite=strict", "path=/"} <= set(cookie.split("; "))
    assert "secure" not in cookie  # plain HTTP on the loopback interface
    (change, *_) = inst.store.rules.changes()
    assert change.by.startswith("session ")
    assert change.by.endswith(" at 127.0.0.1")


@each(
    ("said", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),  # another program of this host
        ({"Origin": None}, 403),
        ({"X_CSRF_Token": None}, 403),
        ({"X_CSRF_Token": "0" * 64}, 403),
        ({"X_CSRF_Token": "ü"}, 403),
        ({"Cookie": None}, 403),
        ({"Cookie": "{cookie}x"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Authorization": f"Bearer {TOKEN}", "Cookie": None}, 403),  # there is no token to say
    ],
)
def test_whatever_is_not_as_a_page_from_here_sends_it_is_refused(inst, open_client, said, status):
    """And nothing is changed."""
    browser = open_client.browser()

    said = {name: value and value.replace("{cookie}", browser.headers["Cookie"]) for name, value in said.items()}
    answer = browser.post(PAUSE, {}, **said)

    assert (answer.status, is_paused(inst)) == (status, False)


def test_the_token_of_another_session_or_process_is_stale(inst, open_client):
    """The answer says what to do: load the page anew."""
    browser, other = open_client.browser(), open_client.browser()
    with served(inst.store) as again:
        later = again.browser()

        answers = [browser.post(PAUSE, {}, X_CSRF_Token=one.headers["X_CSRF_Token"]) for one in (other, later)]

    assert [one.status for one in answers] == [403, 403]
    assert "Reload the page" in answers[0].json()["remedy"]
    assert not is_paused(inst)


def test_without_the_token_nothing_is_read(client):
    """Programs get JSON or a line, browsers the page that asks for it; whatever loads that page is for all."""
    paths = ["/", "/metrics", "/openapi.json", "/api/status", "/api/none", "/none"]
    answers = [client.get(path) for path in paths]
    wrong = [client.program(f"{TOKEN}x").get(path) for path in paths]

    assert {one.status for one in (*answers, *wrong)} == {401}
    assert set(answers[3].json()) == {"error", "remedy"}
    assert client.get("/healthz").status != 401
    page = client.browser().load("/?a=1")
    assert (page.status, b'name="token"' in page.data, b'value="/?a=1"' in page.data) == (401, True, True)
    assert client.get("/static/rlm.css").status == 200
    assert all(client.program(TOKEN).get(path).status == 200 for path in paths[:4])


def test_a_program_orders_with_the_token(inst, client):
    """Without it nothing is ordered, whatever else it says."""
    assert client.post(PAUSE, {}).status == 401
    assert client.browser().post(PAUSE, {}).status == 401
    assert not is_paused(inst)
    assert client.program(TOKEN).post(PAUSE, {}).status == 200
    assert inst.store.rules.changes()[0].by == "token at 127.0.0.1"


def test_a_browser_logs_in_and_out(inst, client):
    """It has what the token gives until then; a kept cookie is worth nothing afterwards."""
    browser = client.browser()
    assert browser.log_in(TOKEN).status == 303
    assert browser.get("/").status == 200
    assert browser.post(PAUSE, {}).status == 200
    kept = browser.headers["Cookie"]

    assert browser.post("/logout", Origin="http://evil.example").status == 403
    out = browser.post("/logout", X_CSRF_Token=None)  # a plain form sends none

    assert (out.status, "expires=Thu, 01 Jan 1970" in out.headers["Set-Cookie"]) == (303, True)
    assert browser.get("/api/status").status == 401
    assert browser.get("/api/status", Cookie=kept).status == 401


def test_a_log_in_needs_the_token_and_a_page_from_here(client):
    """A foreign page cannot log a browser in, not even with the right one."""
    browser = client.browser()

    wrong, empty = browser.log_in("x" * 24), browser.log_in("")
    foreign = browser.log_in(TOKEN, Origin="http://evil.example")

    assert [one.status for one in (wrong, empty, foreign)] == [401, 401, 403]
    assert b'name="next" value="/"' in wrong.data  # where the browser goes in the end is kept
    assert not any("Set-Cookie" in one.headers for one in (wrong, empty, foreign))


def test_without_a_token_there_is_no_log_in(open_client):
    """An empty one is not the right one."""
    assert open_client.browser().log_in("").status == 401


def test_few_log_ins_may_fail_a_minute(client, caplog):
    """From one address; then the right token is not looked at either. The log says from where, not what was said."""
    caplog.set_level(logging.WARNING)
    browser = client.browser()
    wrong = [browser.log_in("x" * 24).status for _ in range(access.EACH.amount)]

    late = browser.log_in(TOKEN)

    assert set(wrong) == {401}
    assert (late.status, "Set-Cookie" in late.headers) == (429, False)
    assert client.program(TOKEN).get("/api/status").status == 200  # programs are not kept out by that
    assert "127.0.0.1" in caplog.text
    assert not any(one in caplog.text for one in (TOKEN, "x" * 24))


@each("target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/\nx", ""])
def test_a_log_in_leads_nowhere_else(client, target):
    """Only to a path of this server."""
    from urllib.parse import quote

    form = f"token={TOKEN}&next={quote(target)}".encode()

    answer = client.browser().post("/login", form)

    assert (answer.status, answer.headers["Location"]) == (303, "/")


@each("said", [{"Host": "rlm.example.com", "Origin": "https://rlm.example.com"}, {}])
def test_a_session_of_the_token_needs_https(inst, said):
    """A browser sends its cookie over nothing else, except to its own host."""
    with served(inst.store, TOKEN, ["rlm.example.com"]) as client:
        answer = client.browser().log_in(TOKEN, **said)

    assert answer.status == 303
    assert "secure" in answer.headers["Set-Cookie"].split("; ")


def test_the_log_in_page_repeats_what_it_is_told_as_text(client):
    """The path that was asked for is no markup."""
    page = client.browser().load('/"><script>x</script>?"><b>')

    assert page.status == 401
    assert b"<script>" not in page.data
    assert b"<b>" not in page.data


def test_a_session_outlives_the_process_but_not_its_token_or_time(inst, client, monkeypatch):
    """It is signed with a key of the token, and says when it began."""
    browser = client.browser()
    browser.log_in(TOKEN)
    cookie = browser.headers["Cookie"]

    def status(token):
        with served(inst.store, token) as again:
            return again.get("/api/status", Cookie=cookie).status

    assert [status(TOKEN), status(f"{TOKEN}-2")] == [200, 401]
    monkeypatch.setattr(access, "SESSION_SECONDS", -1)
    assert status(TOKEN) == 401


def test_every_answer_says_what_a_browser_may_do_with_it(client):
    """No script but ours, no frame, no other origin, no cache."""
    answers = [client.program(TOKEN).get(path) for path in ("/", "/api/status", "/metrics", "/healthz", "/none")]
    answers += [client.get("/"), client.get("/", Accept="text/html"), client.program(TOKEN).post("/metrics")]
    for answer in answers:
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_each_order_is_logged_with_who_and_from_where(inst, client, caplog):
    """Before it is carried out; what it changes of an endpoint is among the changes as well."""
    caplog.set_level(logging.INFO)
    program, browser = client.program(TOKEN), client.browser()
    browser.log_in(TOKEN)
    program.post(PAUSE, {"seconds": 5})
    browser.post(f"/api/endpoints/{ENDPOINT}/limit", {"rate": "20 / minute"})
    browser.post("/api/failed/drop", {"all": True})

    lines = [one.getMessage() for one in caplog.records if getattr(one, "action", "") == "order"]
    assert lines[0] == f'token at 127.0.0.1 ordered {PAUSE} {{"seconds":5.0}}'
    assert lines[1].startswith("session ")
    assert lines[1].endswith(f' at 127.0.0.1 ordered /api/endpoints/{ENDPOINT}/limit {{"rate":"20 / minute"}}')
    assert lines[2].endswith('ordered /api/failed/drop {"all":true}')
    assert len(lines) == 3
