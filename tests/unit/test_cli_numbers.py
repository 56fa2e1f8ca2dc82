"""Numbers on the command line: one out of range is the user's mistake, not a fault of RLM or of Redis."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from rlm.cli.group import rlm


@pytest.mark.parametrize(
    "words",
    [
        ("list", "9" * 20),
        ("failed", "list", "9" * 20),
        ("demo", "--speed", "nan"),
    ],
)
def test_a_number_out_of_range_is_a_usage_error(words):
    """It is named, with the range, before anything is opened."""
    result = CliRunner().invoke(rlm, words)

    assert result.exit_code == 2
    assert f"{words[-1]!s} is not in the range" in result.stderr.replace("'", "")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("mock-api", "--port", "22x"), "'22x' is not a whole number in the range 0<=x<=65535."),
        (("list", "many"), "'many' is not a whole number in the range 1<=x<=1000000000."),
        (("demo", "--speed", "fast"), "'fast' is not a number in the range 0.1<=x<=60."),
        (("list", "1_0"), "'1_0' is not a whole number in the range 1<=x<=1000000000."),
        (("demo", "--speed", "٣"), "'٣' is not a number in the range 0.1<=x<=60."),
        (("endpoint", "limit", "api", "-1/second"), "-1 is not an option, and no number here is below 0."),
    ],
)
def test_what_is_no_number_is_told_in_words_for_people(words, told):
    """With the range that it must be in."""
    assert told in " ".join(CliRunner().invoke(rlm, words).stderr.split())
