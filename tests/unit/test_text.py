"""Durations are read and written in one way everywhere; lists of names."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from rlm.admin.text import seconds_in
from rlm.cli.group import rlm
from tests.each import each


@each(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("10m", 600), ("24h", 86_400), ("2d", 172_800)])
def test_a_duration_is_a_number_of_seconds_or_has_units(text, seconds):
    assert seconds_in(text) == seconds


@pytest.mark.parametrize(
    "words",
    [("queue", "monitor", "--interval"), ("endpoint", "pause", "rebalance_api", "--for"), ("compliance", "--since")],
)
def test_every_option_of_a_duration_refuses_what_is_none(words):
    for wrong in ("", "h", "-1h", "0", "0s", "1w", "24 h", "1e3s", "nan", "inf", "\N{ARABIC-INDIC DIGIT ONE}h"):
        result = CliRunner().invoke(rlm, [*words, wrong])
        assert result.exit_code == 2, wrong
        assert "15m" in " ".join(result.stderr.split()), wrong
