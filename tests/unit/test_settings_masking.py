"""No secret gets out of the settings but by `resolve_headers`."""

from __future__ import annotations

import pytest

from rlm.endpoint import Endpoint, Limit
from rlm.errors import ConfigurationError
from rlm.settings import load_settings, mask_url, resolve_headers

TEXT = """
[redis]
url = "rediss://user:hunter2@redis.example.com:6379/0?ssl_password=hunter2&db=1"
[types.A]
rate_limit = "1/second"
endpoints = [ { name = "a", url = "http://h/a", headers = { Authorization = "env:TOKEN", X-Api = "hunter2" } } ]
"""


@pytest.fixture
def settings(tmp_path):
    """Settings with a secret wherever there can be one: hunter2."""
    path = tmp_path / "rlm.toml"
    path.write_text(TEXT)
    return load_settings(path, {"TOKEN": "hunter2", "SENTRY_DSN": "https://hunter2@h/1"})


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("embedded", "embedded"),
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://:pw@h:6379/0", "redis://:***@h:6379/0"),
        ("redis://user:pw@h", "redis://user:***@h"),
        ("redis://user:p@w/x?y@h", "redis://user:***@h"),
        ("redis+sentinel://u:pw@h1:1,h2:2/main", "redis+sentinel://u:***@h1:1,h2:2/main"),
        ("redis://h?password=pw&db=2", "redis://h?password=***&db=2"),
        ("unix:///path/s.sock?db=2&password=pw", "unix:///path/s.sock?db=2&password=***"),
        ("user:pw@h:6379", "user:***@h:6379"),
        ("https://key@sentry.example.com/42", "https://***@sentry.example.com/42"),
        ("http://h:80/@user?mail=a@b", "http://h:80/***?mail=***"),
        ("http://u:p/w@h/", "http://u:***@h/"),
        ("redis://h?p%61ssword=pw", "redis://h?p%61ssword=***"),
        ("https://h/x?sig=k&design=1", "https://h/x?sig=***&design=1"),
        ("http://[::1]:8090/x?api_key=k", "http://[::1]:8090/x?api_key=***"),
        ("", ""),
    ],
)
def test_mask_url(url, masked):
    """The password goes, and what parameters hide; the rest of the URL stays readable."""
    assert mask_url(url) == masked


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
