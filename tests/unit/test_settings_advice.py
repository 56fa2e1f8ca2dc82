"""Allowed but suspicious settings: only a warning."""

from __future__ import annotations

import pytest

from rlm.admin.doctor.host import check_configuration
from rlm.settings import load_settings
from rlm.settings.rules import warnings_of

TYPE = """
[types.A_B]
processing_seconds = {seconds}
rate_limit = "{limit}"
endpoints = [{{ name = "a", url = "http://127.0.0.1:9/a" }}]
[run]
window_seconds = 60
every_seconds = 60
target = 0.5
guard_seconds = {guard}
"""


@pytest.fixture
def settings(tmp_path):
    """Make settings of one type."""

    def make(seconds=1, limit="30/minute", guard=0.5):
        path = tmp_path / "rlm.toml"
        path.write_text(TYPE.format(seconds=seconds, limit=limit, guard=guard))
        return load_settings(path, {})

    return make


def test_the_built_in_configuration_has_none(tmp_path, monkeypatch):
    """Nor has one whose values go together; other variables of RLM and of anybody are no settings."""
    monkeypatch.chdir(tmp_path)

    assert warnings_of(load_settings(None, {}), {"RLM_CONFIG": "x", "RLM_LOG_FORMAT": "json", "WORKERS_MAX": "1"}) == []


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"seconds": 30}, None),
        ({"seconds": 30.5}, "types.A_B.processing_seconds = 30.5: run.target = 0.5 is 30 s of the window, too short"),
        ({"seconds": 60}, "types.A_B.processing_seconds = 60: no call is expected to be answered in a run, run.window"),
        ({"limit": "9 per 0.6 second"}, None),
        (
            {"limit": "9/second; 99/minute", "guard": 1},
            "run.guard_seconds = 1: the limit of a, 9/second; 99/minute, has",
        ),
        ({"limit": "9/second", "guard": 3}, "with the guard at most 25% of the limit is used"),
    ],
)
def test_values_that_do_not_go_together_are_warned_of(settings, facts, told):
    """By `rlm config check` and by `rlm doctor`, with key and value."""
    made = settings(**facts)

    found = warnings_of(made, {})

    assert len(found) == (told is not None)
    assert told is None or told in found[0]
    assert [one.message for one in check_configuration(made)][1:] == found


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("RLM_WORKERS_MAX", "RLM_WORKERS__MAX"),
        ("rlm_run_window_seconds", "RLM_RUN__WINDOW_SECONDS"),
        ("RLM_TYPES_A_B_RATE_LIMIT", "RLM_TYPES__A_B__RATE_LIMIT"),
        ("RLM_WORKERS_MAXX", None),
    ],
)
def test_a_variable_with_one_underscore_too_few_is_warned_of(settings, variable, meant):
    """It sets nothing, and nothing else would say so; its value is not shown."""
    found = warnings_of(settings(), {variable: "hunter2"})

    assert found == ([f"environment {variable}: sets nothing; {meant} would, with two underscores"] if meant else [])
