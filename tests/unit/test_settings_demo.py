"""The file of a demo: the same configuration, faster."""

from __future__ import annotations

import pytest

from rlm.core.endpoint import Rule
from rlm.sandbox.configuration import demo_document
from rlm.settings import load_settings


@pytest.fixture
def reload(tmp_path):
    """Write the demo's file for settings and load it, like its processes."""

    def reload(settings, speed, base_url="http://127.0.0.1:9"):
        path = tmp_path / "demo.toml"
        path.write_text(demo_document(settings, speed, base_url), encoding="utf-8")
        return load_settings(path, {})

    return reload


@pytest.fixture
def built_in(tmp_path, monkeypatch):
    """The built-in configuration."""
    monkeypatch.chdir(tmp_path)
    return load_settings(environ={})


@pytest.mark.parametrize("speed", [1, 7, 0.5, 100, 3.3])
def test_any_speed_is_a_valid_configuration(built_in, reload, speed):
    demo = reload(built_in, speed)

    (rule,) = demo.endpoints["rebalance_api"].limit.rules
    assert rule.amount == 30
    assert rule.seconds == pytest.approx(60 / speed)


def test_other_configurations(tmp_path, reload):
    path = tmp_path / "rlm.toml"
    path.write_text("""
        [redis]
        url = "redis://:hunter2@h"
        [retry]
        timeout_seconds = 0.5
        [queue]
        events = 'a "quoted" name'
        [types."a.b"]
        rate_limit = "5/second; 1000/hour"
        endpoints = [ { name = "a", url = "https://h/x", headers = { X-Api = "hunter2" } } ]
    """)
    settings = load_settings(path, {})

    demo = reload(settings, 10)

    assert "hunter2" not in demo_document(settings, 10, "http://h")
    assert demo.redis.url == "embedded"
    assert demo.queue.events == 'a "quoted" name'
    assert demo.event_types[0].name == "a.b"
    assert demo.endpoints["a"].limit.rules == (Rule(5, 0.1), Rule(1000, 360.0))
    assert demo.endpoints["a"].timeout_seconds == 0.5
    assert demo.endpoints["a"].headers == {}


def test_budgets_and_shares(tmp_path, reload):
    path = tmp_path / "rlm.toml"
    path.write_text("""
        [budgets."account.1"]
        rate_limit = "60/minute; 1000/hour"
        [types.A]
        share = 0.1
        rate_limit = "40/minute"
        endpoints = [
          { name = "a", url = "http://h/a", budget = "account.1" },
          { name = "b", url = "http://h/b" },
        ]
    """)

    demo = reload(load_settings(path, {}), 10)

    assert demo.event_types[0].share == 0.1
    assert demo.budgets["account.1"].limit.rules == (Rule(60, 6.0), Rule(1000, 360.0))
    assert demo.endpoints["a"].budget == demo.budgets["account.1"]
    assert demo.endpoints["b"].budget is None
