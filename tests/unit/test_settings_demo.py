"""The file of a demo: the same configuration, faster."""

from __future__ import annotations

import pytest

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
