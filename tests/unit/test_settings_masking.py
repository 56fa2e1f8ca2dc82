"""No secret leaves the settings except through `resolve_headers`."""

from __future__ import annotations

import base64
import json
import time
from urllib.parse import quote

import pytest

from rlm.core.endpoint import Endpoint, Limit
from rlm.core.errors import ConfigurationError
from rlm.settings import load_settings
from rlm.settings.secrets import Secrets, known, mask_url, remember, resolve_headers
from tests.each import each

TEXT = """
[redis]
url = "rediss://user:hunter2@redis.example.com:6379/0?ssl_password=hunter2&db=1"
[types.A]
rate_limit = "1/second"
endpoints = [ { name = "a", url = "http://h/a", headers = { Authorization = "env:TOKEN", X-Api = "hunter2" } } ]
"""


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
    return load_settings(path, {"TOKEN": "hunter2", "SENTRY_DSN": "https://hunter2@h/1"})


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
        ("redis://h?password=pw&db=2", "redis://h?password=***&db=2"),
        ("redis://h?dsn=pw&db=2", "redis://h?dsn=***&db=2"),
        ("unix:///path/s.sock?db=2&password=pw", "unix:///path/s.sock?db=2&password=***"),
        ("user:pw@h:6379", "user:***@h:6379"),
        ("https://key@sentry.example.com/42", "https://***@sentry.example.com/42"),
        ("http://h:80/@user?mail=a@b", "http://h:80/***?mail=***"),
        ("http://u:p/w@h/", "http://u:***@h/"),
        ("redis://h?p%61ssword=pw", "redis://h?p%61ssword=***"),
        ("https://h/x?sig=k&design=1", "https://h/x?sig=***&design=1"),
        ("http://[::1]:8090/x?api_key=k", "http://[::1]:8090/x?api_key=***"),
        ("", ""),
        ("https://hooks.example.com/services/T000/B000/XXXXXXXX", "https://hooks.example.com/services/***/***/***"),
        ("https://h:8443/bot123456:ABC-DEF1234ghIkl/sendMessage", "https://h:8443/***/sendMessage"),
        ("https://h/api/webhooks/123456789012345678/aB3_x-Y", "https://h/api/webhooks/***/***"),
        ("https://h/v1/rebalance_api/2024-01-31", "https://h/v1/rebalance_api/2024-01-31"),
        ("https://h/550e8400-e29b-41d4-a716-446655440000/", "https://h/***/"),
        ("https://h/deadbeefdeadbeefdeadbeefdeadbeef", "https://h/***"),
        ("https://h/%68unter2", "https://h/***"),
        ("https://h/a?code=x9Fq2kLm3&page=2&sort=name", "https://h/a?code=***&page=2&sort=name"),
        ("https://h", "https://h"),
        ("unix:///run/tmpx9Fq2/valkey.sock", "unix:///run/tmpx9Fq2/valkey.sock"),
    ],
)
def test_mask_url(url, masked):
    """The password goes, and what parameters hide; the rest of the URL stays readable."""
    assert mask_url(url) == masked


@each(
    "text",
    [
        *(
            "[redis]\npasswd = 'hunter2'",
            "[redis]\nurl = 'hunter2'",
            "[redis]\nurl = ['hunter2']",
            "[rdis]\nx = 'hunter2'",
        ),
        *(
            '[redis]\nurl = \'{"password": "hunter2"}\'',
            "redis = 'hunter2'",
            "hunter2pw = 'hunter2'",
            "types = 'hunter2'",
        ),
        *("[web]\ntoken = ['hunter2']", "[web]\ntoken = 'hunter2'", "[web]\ntokken = 'hunter2'", "web = 'hunter2'"),
        *("[types.A]\nkey = 'hunter2'", "[types]\nA = 'hunter2'", "[types.A]\nendpoints = ['hunter2']"),
        *("[types.A]\nendpoints = [{ url = 'hunter2' }]", "[types.A]\nendpoints = [{ url = 'http://u:hunter2@h/ü' }]"),
        *(
            "[types.A]\nendpoints = [{ headers = 'hunter2' }]",
            "[types.A]\nendpoints = [{ headers = { X = ['hunter2'] } }]",
        ),
        *(
            "[types.A]\nendpoints = [{ headrs = 'hunter2' }]",
            "[types.A]\nendpoints = 'hunter2'",
            "[budgets]\nb = 'hunter2'",
        ),
        *("[budgets.b]\nkey = 'hunter2'", "[redis.url]\npassword = 'hunter2'"),
    ],
)
def test_no_fault_of_a_file_shows_a_value_whose_key_is_none_or_that_may_be_secret(tmp_path, text):
    """Unknown keys, values where tables belong, and secret settings of the wrong type or form."""
    path = tmp_path / "rlm.toml"
    path.write_text(text)

    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, {})

    assert "hunter2" not in str(caught.value).replace("hunter2pw", "")


@each(
    ("variable", "value"),
    [
        *(("RLM_REDIS__PASSWD", "hunter2"), ("RLM_RDIS__URL", "hunter2"), ("RLM_REDIS__URL", "hunter2")),
        *(
            ("RLM_REDIS__URL", '{"password": "hunter2"}'),
            ("RLM_WEB__TOKEN", "hunter2"),
            ("RLM_WEB__TOKEN__X", "hunter2"),
        ),
        *(("RLM_TYPES__A__ENDPOINTS", '[{"headers": {"X": "hunter2"}}]'), ("REDIS_URL", "redis:/:hunter2@h")),
        ("SENTRY_DSN", "hunter2"),
    ],
)
def test_no_fault_of_the_environment_shows_a_value_that_may_be_secret(tmp_path, variable, value):
    """Mistyped variables, JSON, and what is no URL."""
    path = tmp_path / "rlm.toml"
    path.write_text("")

    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, {variable: value})

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("told", ["redis.passwd=hunter2", "hunter2", "web.token=hunter2", "redis.url=hunter2"])
def test_no_fault_of_an_option_shows_a_value_that_may_be_secret(tmp_path, told):
    """`--set` is read as the file is."""
    path = tmp_path / "rlm.toml"
    path.write_text("")

    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, {}, [told])

    assert "hunter2" not in str(caught.value)


def test_what_is_secret_is_known_in_every_spelling(tmp_path):
    """Of Redis, of headers in the file and in variables, of the web token, the DSN, a path and a parameter."""
    path = tmp_path / "rlm.toml"
    url = "https://hooks.example.com/services/T0/B0/p4thkey42?k=param/key42"
    headers = '{ Authorization = "env:TOKEN", X-Api = "l1teral42", Basic = "env:BASIC", Accept = "text/plain",'
    headers += ' X-Stage = "production" }'
    path.write_text(
        '[redis]\nurl = "redis://user:pass%2Fword42@h:6379/0"\n[web]\ntoken = "env:WEB"\n'
        '[types.A]\nrate_limit = "1/second"'
        f'\nendpoints = [ {{ name = "a", url = "{url}", headers = {headers} }} ]\n'
    )
    basic = base64.b64encode(b"user:basicpw42").decode()
    environ = {"TOKEN": 'Bearer env"token42', "WEB": "webtoken42webtoken42", "BASIC": f"Basic {basic}"}
    load_settings(path, {**environ, "SENTRY_DSN": "https://dsnkey42@sentry.example.com/1"})
    secret = [
        "pass%2Fword42",
        "pass/word42",
        'env"token42',
        "l1teral42",
        "webtoken42webtoken42",
        "basicpw42",
        "dsnkey42",
    ]
    secret += ["p4thkey42", "param/key42", basic]

    for one in secret:
        for spelling in (one, quote(one, safe=""), json.dumps(one)[1:-1], repr(one)[1:-1]):
            assert known().mask(f"say {spelling}, again") == "say ***, again", spelling
        assert one not in repr(known())
    assert known().mask("GET /services/T0/B0/p4thkey42 of user at h:6379, text/plain in production") == (
        "GET /services/T0/B0/*** of user at h:6379, text/plain in production"
    )
    assert known().mask("at https://h/x/aB3dE5fG7?z=1, it says") == "at https://h/x/***?z=1, it says"


@each("name", ["payments2024", "s204body", "a1b2c3d4e5", "a1b2c3d4e5_api"])
def test_the_name_of_an_endpoint_or_a_type_is_always_shown(tmp_path, name):
    """Also one that is, or holds, a piece of a URL that looks like a key: masked is that piece where it is no name."""
    path, piece = tmp_path / "rlm.toml", name.removesuffix("_api")
    url = f"https://h/{piece}"
    path.write_text(f'[types.{name}]\nrate_limit = "1/second"\nendpoints = [ {{ name = "{name}", url = "{url}" }} ]\n')
    load_settings(path, {})

    line = f"{name} failed 5 times in a row; i1:{name} waits  [endpoint={name}]"
    assert known().mask(line) == line
    for told in (f"no answer of {url}", f"it has /{piece}", f"key_{piece}", f"{piece}x"):
        assert known().mask(told) == told.replace(piece, "***")


def test_masking_takes_no_longer_than_reading():
    """Whoever has RLM quote a long text does not hold it up."""
    began = time.monotonic()
    known().mask("a://b " + "x" * 400_000 + " https://h/" + "aB3-" * 100_000 + " ://" + "@" * 100_000)
    known().mask(
        "a://" + "b" * 400_000 + " http://h/?" + "?" * 100_000 + " http://" * 50_000 + "http://h/" + "/" * 100_000
    )

    assert time.monotonic() - began < 5.0  # by the square of its length it would take minutes


def test_representation_shows_no_secret(settings):
    """Neither the settings nor any part of them shows a password, a header's value or the DSN."""
    parts = [settings, settings.redis, settings.types, settings.event_types, settings.endpoints, settings.shown]

    assert [part for part in parts if "hunter2" in f"{part!r} {part}"] == []
    assert "'Authorization': 'env:TOKEN', 'X-Api': '***'" in repr(settings.endpoints)


def test_shown_masks_secrets(settings):
    """What is shown to people has every setting, the secret ones masked."""
    shown = {entry.key: entry.value for entry in settings.shown}

    assert shown["redis.url"] == "rediss://user:***@redis.example.com:6379/0?ssl_password=***&db=1"
    assert shown["types.A.endpoints[0].headers.Authorization"] == "env:TOKEN"
    assert shown["types.A.endpoints[0].headers.X-Api"] == "***"
    assert shown["sentry_dsn"] == "***"
    assert shown["run.target"] == 0.75


def test_programs_get_the_real_values(settings):
    """Masking is for people: the settings themselves have the real URL and DSN, headers are as configured."""
    assert settings.redis.url.startswith("rediss://user:hunter2@")
    assert settings.sentry_dsn == "https://hunter2@h/1"
    assert settings.endpoints["a"].headers == {"Authorization": "env:TOKEN", "X-Api": "hunter2"}


def test_resolve_headers(settings):
    """Headers from the environment are read at the moment of the call."""
    headers = resolve_headers(settings.endpoints["a"], {"TOKEN": "now"})

    assert headers == {"Authorization": "now", "X-Api": "hunter2"}


def test_resolve_headers_without_the_variable():
    """A variable that has gone since loading is named with endpoint and header."""
    endpoint = Endpoint("a", "http://h/", Limit.parse("1/second"), 1.0, {"Authorization": "env:TOKEN"})

    with pytest.raises(
        ConfigurationError, match="endpoint 'a', header 'Authorization': the environment variable TOKEN"
    ):
        resolve_headers(endpoint, {})
