"""Which settings are read from where, and the result."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlm.core.endpoint import Budget, Limit, Success
from rlm.settings import load_settings
from tests.each import each

ONE_TYPE = """
[types.A]
priority = 7
processing_seconds = 0.1
rate_limit = "10/second"
endpoints = [ { name = "a", url = "http://127.0.0.1:1/a" } ]
"""

SHARED_BUDGET = """
[budgets.account]
rate_limit = "60/minute; 1000/hour"
[types.A]
rate_limit = "40/minute"
endpoints = [
  { name = "a", url = "http://h/a", budget = "account" },
  { name = "b", url = "http://h/b" },
]
[types.B]
priority = 5
share = 0.25
rate_limit = "40/minute"
endpoints = [
  { name = "c", url = "http://h/c", budget = "account" },
  { name = "a", url = "http://h/a", budget = "account" },
]
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def load(here):
    """Load the given text as a configuration file, in the given environment."""

    def load(text="", **environ):
        path = here / "given.toml"
        path.write_text(text, encoding="utf-8")
        return load_settings(path, environ)

    return load


def test_endpoint_has_its_own_limit_timeout_and_headers(load):
    settings = load("""
        [retry]
        timeout_seconds = 4
        [types.A]
        rate_limit = "10/second"
        endpoints = [
          { name = "a", url = "http://h/a" },
          { name = "b", url = "http://h/b", rate_limit = "2/hour", timeout_seconds = 0.5, headers = { X-Kind = "k" } },
        ]
    """)

    first, second = settings.event_types[0].endpoints
    assert (first.limit.text, first.timeout_seconds, first.headers) == ("10/second", 4, {})
    assert (second.limit.text, second.timeout_seconds, second.headers) == ("2/hour", 0.5, {"X-Kind": "k"})


def test_an_endpoint_has_the_success_of_its_type_or_its_own(load):
    text = """
        [types.A]
        rate_limit = "1/second"
        success = { content_type = "application/json", field = "status", value = "ok" }
        endpoints = [
          { name = "a", url = "http://host/a" },
          { name = "b", url = "http://host/b", success = { value = 0 } },
          { name = "c", url = "http://host/c", success = {} },
        ]
    """
    settings = load(text)

    assert [each.success for each in settings.endpoints.values()] == [
        Success("application/json", "status", "ok"),
        Success(value=0),
        Success(),
    ]
    assert load(text.replace("value = 0", "value = 1")).revision != settings.revision


def test_endpoints_share_a_budget_and_types_have_shares(load):
    settings = load(SHARED_BUDGET)

    account = Budget("account", Limit.parse("60/minute; 1000/hour"))
    assert {name: each.budget for name, each in settings.endpoints.items()} == {"a": account, "b": None, "c": account}
    assert [(kind.name, kind.share) for kind in settings.event_types] == [("B", 0.25), ("A", 0.0)]


def test_environment_goes_over_file(load):
    settings = load(
        "[workers]\nmax = 3\nthreads = 2\n",
        RLM_WORKERS__MAX="4",
        RLM_RUN__GUARD_SECONDS="0.25",
        RLM_REDIS__PREFIX="7",
        RLM_WEB__HOSTS="a.example.com, [::1]",
    )

    assert (settings.workers.max, settings.workers.threads) == (4, 2)
    assert settings.run.guard_seconds == 0.25
    assert settings.redis.prefix == "7"
    assert settings.web.hosts == ["a.example.com", "[::1]"]


@pytest.mark.parametrize(
    ("said", "place"), [("/var/lib/rlm", "/var/lib/rlm"), ("data", "conf/data"), ("", "conf/.rlm")]
)
def test_the_data_directory_can_be_named(here, said, place):
    (here / "conf").mkdir()
    (here / "conf" / "x.toml").write_text("")

    settings = load_settings(Path("conf/x.toml"), {"RLM_DATA_DIR": said})
    apart = load_settings(Path("conf/x.toml"), {"RLM_DATA_DIR": said, "RLM_ARCHIVE__DIRECTORY": "old"})

    assert (settings.home, settings.data_dir) == (here / "conf", here / place)
    assert (settings.archive_dir, apart.archive_dir) == (here / place / "archive", here / "conf" / "old")


@each(
    "change",
    [
        {"RLM_WORKERS__THREADS": "6"},
        {"RLM_RETRY__MAX_RUNS": "6"},
        {"RLM_RUN__GUARD_SECONDS": "0.6"},
        {"RLM_REDIS__PREFIX": "other"},
        {"RLM_QUEUE__EVENTS": "other"},
        {"RLM_TYPES__A__RATE_LIMIT": "11/second"},
        {"RLM_TYPES__A__PRIORITY": "8"},
    ],
)
def test_revision_follows_what_workers_depend_on(load, change):
    assert load(ONE_TYPE, **change).revision != load(ONE_TYPE).revision


@pytest.mark.parametrize(
    "change",
    [
        {"REDIS_URL": "redis://other"},
        {"SENTRY_DSN": "https://key@h/1"},
        {"RLM_WORKERS__MAX": "7"},
        {"RLM_RUN__WINDOW_SECONDS": "90"},
    ],
)
def test_revision_does_not_follow_the_rest(load, change):
    assert load(ONE_TYPE, **change).revision == load(ONE_TYPE).revision


def test_a_variable_in_a_url(load):
    text = ONE_TYPE.replace("127.0.0.1:1/a", "h/${KEY}/x")

    first, second = load(text, KEY="one"), load(text, KEY="two")

    assert first.endpoints["a"].url == "http://h/one/x"
    assert first.endpoints["a"].window_id == second.endpoints["a"].window_id  # the secret may be another one
    assert first.revision != second.revision
