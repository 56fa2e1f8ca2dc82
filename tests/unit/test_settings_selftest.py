"""The small copy of a configuration that a self-test uses."""

from __future__ import annotations

import pytest

from rlm.sandbox.configuration import events_by_type, selftest_document
from rlm.settings import load_settings

API = "http://127.0.0.1:5"
MANY_KINDS = """
[run]
guard_seconds = 2.5
[workers]
max = 1
[budgets.account]
rate_limit = "1000/hour"
[types.A]
rate_limit = "1000/hour; 20 per 0.6 second"
processing_seconds = 30.0
endpoints = [{ name = "shared", url = "https://real/shared", budget = "account", headers = { X-Key = "secret" } },
             { name = "own", url = "https://real/own", rate_limit = "1/day", timeout_seconds = 60 }]
[types.B]
rate_limit = "20 per 0.6 second; 1000/hour"
endpoints = [{ name = "shared", url = "https://real/shared", budget = "account" }]
"""


@pytest.fixture
def made(tmp_path):
    """The copy of a configuration with every kind of limit; and the number of events of each type."""
    config = tmp_path / "rlm.toml"
    config.write_text(MANY_KINDS)
    settings = load_settings(config, {})
    document = selftest_document(settings, "rlm-test-1", API)
    config.write_text(document)
    return load_settings(config, {}), events_by_type(settings), document


def test_it_calls_nothing_but_the_api_it_is_given(made):
    """And brings no header with it, which may be a secret."""
    settings, _, document = made

    assert {endpoint.url for endpoint in settings.endpoints.values()} == {f"{API}/shared", f"{API}/own"}
    assert not any(endpoint.headers for endpoint in settings.endpoints.values())
    assert "secret" not in document
    assert "real" not in document


def test_everything_it_writes_is_under_the_prefix(made):
    """The keys of RLM, and the three lists."""
    settings, *_ = made

    assert settings.redis.prefix == "rlm-test-1"
    assert settings.queue.events == "rlm-test-1_events"
    assert settings.queue.processing == "rlm-test-1_processing"
    assert settings.queue.failed == "rlm-test-1_failed"


def test_limits_keep_their_shape_and_are_reached_within_seconds(made):
    """As many rules, the shorter period first; an endpoint of two types has room for both, a budget for its part."""
    settings, events, _ = made

    assert settings.endpoints["shared"].limit.text == "4 per 1.0 second; 8 per 2.0 second"
    assert settings.endpoints["own"].limit.text == "1 per 1.0 second"
    assert settings.budgets["account"].limit.text == "3 per 1.0 second"
    assert events == {"A": 5, "B": 4}


def test_what_takes_long_is_short(made):
    """Calls, time-outs, the guard; no tick comes in between; no more workers than are allowed."""
    settings, *_ = made

    assert settings.types["A"].processing_seconds == 0.05
    assert settings.endpoints["own"].timeout_seconds == 5.0
    assert settings.run.guard_seconds == 0.5
    assert settings.run.every_seconds == 86_400
    assert settings.workers.max == 1


def test_of_many_types_there_are_few_events_each(tmp_path):
    """It takes seconds however many are configured."""
    config = tmp_path / "rlm.toml"
    config.write_text(
        "".join(
            f'[types.T{n}]\nrate_limit = "5/second"\nendpoints = [{{ name = "e{n}", url = "http://h/{n}" }}]\n'
            for n in range(30)
        )
    )

    assert set(events_by_type(load_settings(config, {})).values()) == {2}
