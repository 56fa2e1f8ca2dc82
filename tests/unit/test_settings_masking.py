"""No secret leaves the settings except in the headers and the URL of a call."""

from __future__ import annotations

import base64
import json
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.core.errors import ConfigurationError
from rlm.settings import load_settings
from rlm.settings.secrets import MASK, Secrets, mask, mask_url, remember
from tests.each import each

TEXT = """
[redis]
url = "rediss://user:hunter2@redis.example.com:6379/0?ssl_password=hunter2&db=1"
[web]
token = "hunter2hunter2hunter2"
[types.A]
rate_limit = "1/second"
endpoints = [ { name = "a", url = "http://h/${KEY}", headers = { Authorization = "env:TOKEN", X-Api = "hunter2" } } ]
"""
SECRET = "s3cr3t/ä+\"of&<the'house>"
FORMS = {
    "plain": str,
    "UTF-8 on the wire": lambda text: text.encode().decode("latin-1"),
    "path": quote,
    "parameter": lambda text: quote(text, safe=""),
    "form": quote_plus,
    "lower hex": lambda text: quote(text, safe="").lower(),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON of PHP": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "JSON in UTF-8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1].encode().decode("latin-1"),
    "Latin-1 parameter": lambda text: quote(text, safe="", encoding="latin-1"),
    "base64": lambda text: base64.b64encode(text.encode()).decode().rstrip("="),
    "base64 of URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
}


@pytest.fixture(autouse=True)
def _forgotten():
    """Let the process forget the secrets of a test."""
    yield
    remember(Secrets())


@pytest.fixture
def settings(tmp_path):
    """Settings with a secret in every possible place: hunter2."""
    path = tmp_path / "rlm.toml"
    path.write_text(TEXT)
    return load_settings(path, {"TOKEN": "hunter2", "KEY": "hunter2", "SENTRY_DSN": "https://hunter2@h/1"})


@each(
    ("url", "masked"),
    [
        ("embedded", "embedded"),
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://:pw@h:6379/0", "redis://:***@h:6379/0"),
        ("redis://user:pw@h", "redis://user:***@h"),
        ("redis://user:p@w/x?y@h", "redis://user:***@h"),
        ("redis+sentinel://u:pw@h1:1,h2:2/main", "redis+sentinel://u:***@h1:1,h2:2/main"),
        (
            "rediss+sentinel://u:pw@h1/main/0?sentinel_username=s&sentinel_password=pw&ssl_password=pw",
            "rediss+sentinel://u:***@h1/main/0?sentinel_username=s&sentinel_password=***&ssl_password=***",
        ),
        ("unix:///path/s.sock?db=2&password=pw", "unix:///path/s.sock?db=2&password=***"),
        ("redis://h/0?my_file=pw&socket_timeout=2&db=pw#p=pw", "redis://h/0?my_file=***&socket_timeout=2&db=***#p=***"),
        ("user:pw@h:6379", "user:***@h:6379"),
        ("https://key@sentry.example.com/42", "https://***@sentry.example.com/42"),
        ("", ""),
    ],
)
def test_mask_url(url, masked):
    assert mask_url(url) == masked


@each(
    "text",
    [
        *("[redis]\npasswd = 'hunter2'", "[redis]\nurl = 'redis:/:hunter2@h'", "[rdis]\nx = 'hunter2'"),
        *("redis = 'hunter2'", "hunter2pw = 'hunter2'", "types = 'hunter2'", "[types]\nA = 'hunter2'"),
        *("[web]\ntoken = ['hunter2']", "[web]\ntoken = 'hunter2'", "[web]\ntokken = 'hunter2'", "web = 'hunter2'"),
        *("[types.A]\nkey = 'hunter2'", "[types.A]\nendpoints = ['hunter2']", "[types.A]\nendpoints = 'hunter2'"),
        *(
            "[types.A]\nendpoints = [{ url = 'http://u:hunter2@h/' }]",
            "[types.A]\nendpoints = [{ headrs = 'hunter2' }]",
        ),
        "[types.A]\nendpoints = [{ headers = { X = ['hunter2'] } }]",
        *("[budgets]\nb = 'hunter2'", "[budgets.b]\nkey = 'hunter2'", "[redis.url]\npassword = 'hunter2'"),
    ],
)
def test_no_fault_of_a_file_shows_what_may_be_secret(tmp_path, text):
    path = tmp_path / "rlm.toml"
    path.write_text(text)

    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, {})

    assert "hunter2" not in str(caught.value).replace("hunter2pw", "")
    assert caught.value.__context__ is None


@each(
    ("variable", "value"),
    [
        ("RLM_REDIS__PASSWD", "hunter2"),
        ("RLM_RDIS__URL", "hunter2"),
        ("RLM_WEB__TOKEN", "hunter2"),
        ("RLM_WEB__TOKEN__X", "hunter2"),
        ("RLM_TYPES__A__ENDPOINTS", '[{"headers": {"X": "hunter2"}}]'),
        ("REDIS_URL", "redis:/:hunter2@h"),
        ("RLM_REDIS__URL", "reddis://:hun/t@hunter2@h:x"),
    ],
)
def test_no_fault_of_the_environment_or_an_option_shows_what_may_be_secret(tmp_path, variable, value):
    path = tmp_path / "rlm.toml"
    path.write_text("")

    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, {variable: value}, ["redis.passwd=hunter2", "web.token=hunter2"])

    assert "hunter2" not in str(caught.value)


@each("written", FORMS.values())
def test_a_secret_is_found_in_each_form_beside_one_that_is_its_beginning(written):
    assert Secrets({SECRET, SECRET[:8]}).mask(f"before {written(SECRET)} after") == f"before {MASK} after"


def test_what_is_secret(tmp_path):
    path = tmp_path / "rlm.toml"
    headers = '{ Authorization = "env:TOKEN", Basic = "env:BASIC", Accept = "text/plain", X-Stage = "production" }'
    path.write_text(
        '[redis]\nurl = "redis://user:pass%2Fword42@h:6379/0"\n[web]\ntoken = "env:WEB"\n'
        '[types.A]\nrate_limit = "1/second"'
        f'\nendpoints = [ {{ name = "a", url = "https://h/550e8400/${{KEY}}", headers = {headers} }} ]\n'
    )
    basic = base64.b64encode(b"user:basicpw42").decode()
    environ = {
        "TOKEN": "Bearer envtoken42",
        "WEB": "webtoken42webtoken42",
        "BASIC": f"Basic {basic}",
        "KEY": "urlkey42",
    }
    settings = load_settings(path, {**environ, "SENTRY_DSN": "https://dsnkey42@sentry.example.com/1"})

    secret = ["pass%2Fword42", "pass/word42", "envtoken42", "webtoken42webtoken42", "dsnkey42", "urlkey42"]
    for value in (*secret, basic):
        assert mask(f"say {value}, again") == "say ***, again"
    plain = "GET https://h/550e8400/ of user at h:6379, text/plain in production"
    assert mask(plain) == plain
    assert settings.endpoints["a"].url == "https://h/550e8400/urlkey42"


def test_of_a_torn_text_the_end_goes_as_well():
    whole = "x" * 100 + SECRET * 3
    for end in range(100, len(whole)):
        assert SECRET[:3] not in Secrets({SECRET}).mask(whole[:end], torn=True)


@given(st.text(), st.sets(st.text(min_size=6)))
def test_any_text_and_any_secrets_are_taken(text, secrets):
    masked = Secrets(secrets).mask(text)

    assert not [secret for secret in secrets if secret in masked and "*" not in secret]


def test_masking_takes_no_longer_than_reading(settings):
    began = time.monotonic()
    mask("a://b " + "x" * 400_000 + " https://h/" + "aB3-" * 100_000 + " ://" + "@" * 100_000)
    mask_url("a" * 400_000)
    mask_url("a://" + "b" * 400_000 + " http://h/?" + "?" * 100_000 + " http://" * 50_000 + "@" * 100_000)

    assert time.monotonic() - began < 5.0  # by the square of its length it would take minutes


def test_representation_shows_no_secret(settings):
    parts = [settings, settings.redis, settings.types, settings.event_types, settings.endpoints, settings.shown]

    assert [part for part in parts if "hunter2" in f"{part!r} {part}"] == []


def test_shown_masks_secrets(settings):
    shown = {key: entry.value for key, entry in settings.shown.items()}

    assert shown["redis.url"] == "rediss://user:***@redis.example.com:6379/0?ssl_password=***&db=1"
    assert shown["types.A.endpoints[0].url"] == "http://h/${KEY}"
    assert shown["types.A.endpoints[0].headers.Authorization"] == "env:TOKEN"
    assert shown["types.A.endpoints[0].headers.X-Api"] == "***"
    assert shown["web.token"] == "***"
    assert shown["sentry_dsn"] == "***"
    assert shown["run.target"] == 0.75
